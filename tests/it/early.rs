//! Results that are read as soon as their pod has succeeded, before the Job's own end.

use serde_json::{Value, json};

use crate::support::api_proxy::{ApiProxy, Calls, Fault};
use crate::support::{Request, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_was_read_at_its_pods_success_needs_no_look_at_the_pods_when_the_job_ends() {
    let world = World::new("early").await;
    let proxy = ApiProxy::start(&world).await;
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &[]).await;
    let mut producer = world.producer().await;
    // By then the watch on pods has its list.
    assert_eq!(producer.ask(Request::template("script", &json!({"script": "echo first"}))).await.state(), "succeeded");
    world.settled().await;
    proxy.fault(Calls::PodLists, Fault::Says(500), usize::MAX);
    let both = "printf note > /dev/termination-log; echo out";
    for (template, written) in [("script", "out\n"), ("message", "note"), ("auto", "note")] {
        let event = producer.ask(Request::template(template, &json!({"script": both}))).await;
        assert_eq!((event.state(), event.result("text")), ("succeeded", &Value::from(written)), "{template}");
        world.settled().await;
    }
}
