//! Logs that are not there when they are asked for, or that nobody gives.

use std::time::Duration;

use serde_json::json;

use crate::support::api_proxy::{ApiProxy, Calls, Fault};
use crate::support::{Request, World, eventually};

/// The node of the pod does not answer, and the API server says so, each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_no_node_gives_ends_its_request_after_the_grace() {
    let world = World::new("no-node").await;
    let proxy = ApiProxy::start(&world).await;
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &["results.grace=5s"]).await;
    let mut producer = world.producer().await;
    proxy.fault(Calls::Logs, Fault::Says(504), usize::MAX);
    let event = producer.ask(Request::template("script", &json!({"script": "echo out of reach"}))).await;
    assert_eq!((event.state(), event.error("code")), ("failed", &json!("result.unreadable")), "{}", event.data());
    assert!(proxy.heal() > 1);
    world.settled().await;
}

/// Its node has not written it down yet, or not the last lines of it, short of processor as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_comes_late_is_a_result_all_the_same_and_an_empty_one_is_empty() {
    let world = World::new("late-log").await;
    let proxy = ApiProxy::start(&world).await;
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &[]).await;
    let mut producer = world.producer().await;
    for lines in [0, 2] {
        proxy.fault(Calls::Logs, Fault::SaysLines(lines), 1);
        let script = format!("for line in of the {lines} last; do echo $line; done");
        let event = producer.ask(Request::template("script", &json!({"script": script}))).await;
        let text = format!("of\nthe\n{lines}\nlast\n");
        assert_eq!((event.state(), event.result("text")), ("succeeded", &json!(text)), "{}", event.data());
        assert_eq!(proxy.heal(), 1);
    }
    let event = producer.ask(Request::template("script", &json!({"script": "true"}))).await;
    assert_eq!((event.state(), event.result("text")), ("succeeded", &json!("")), "{}", event.data());
    world.settled().await;
}

/// What could not be read before an outage and after it was out of reach for longer than the grace, and its node for a moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_waited_for_again_after_the_api_server_was_away() {
    let world = World::new("log-and-outage").await;
    let proxy = ApiProxy::start(&world).await;
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &["results.grace=6s"]).await;
    let mut producer = world.producer().await;
    proxy.fault(Calls::Logs, Fault::Says(504), usize::MAX);
    producer.send(Request::template("script", &json!({"script": "echo there all along"}))).await;
    eventually("a log that is not given", async || (proxy.met() > 0).then_some(())).await;
    proxy.fault(Calls::Gets, Fault::Says(503), usize::MAX);
    world.pause(Duration::from_secs(9)).await;
    proxy.heal();
    proxy.fault(Calls::Logs, Fault::Says(504), 1);
    let event = producer.event().await;
    assert_eq!((event.state(), event.result("text")), ("succeeded", &json!("there all along\n")), "{}", event.data());
    assert_eq!(proxy.heal(), 1);
    world.settled().await;
}
