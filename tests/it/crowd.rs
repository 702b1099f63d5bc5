//! An API server that does little at a time, and a dispatcher that holds much.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::api_proxy::{ApiProxy, Calls, Fault};
use crate::support::{Request, World, eventually};

const IMPATIENT: [&str; 1] = ["kubernetes.call_timeout=3s"];
const REQUESTS: usize = 250;
const KEYS: usize = 5;
/// Twenty a second: asked for all at once, most have no answer within 3 s.
const EACH: Duration = Duration::from_millis(50);

/// Each that was delivered before has to look for its Job. Asked by all of them at once, again and again, the API server
/// would do nothing any more but what nobody waits for.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_all_have_to_look_for_their_jobs_ask_no_more_than_is_answered() {
    let world = World::new("crowd").await;
    let proxy = ApiProxy::start(&world).await;
    let producer = world.producer().await;
    let mut first = world.dispatcher_in(&proxy.environment(), &IMPATIENT).await;
    proxy.fault(Calls::Any, Fault::Hangs, usize::MAX);
    let mut owed = HashSet::new();
    for number in 0..REQUESTS {
        let script = format!("echo {}", number % KEYS);
        owed.insert(producer.send(Request::template("script", &json!({"script": script}))).await);
    }
    eventually("it holds them all", async || {
        (first.metric("jobquay_requests_received_total", "") >= REQUESTS as f64).then_some(())
    })
    .await;
    first.kill();
    proxy.heal();
    proxy.fault(Calls::Gets, Fault::Crowded(EACH), usize::MAX);
    let next = world.dispatcher_in(&proxy.environment(), &IMPATIENT).await;
    let begun = Instant::now();
    let mut producer = producer;
    let events = all_answers(&mut producer, &owed).await;
    println!("{REQUESTS} answered after {:.1} s", begun.elapsed().as_secs_f64());
    assert_agreement(&events);
    assert!(next.metric("jobquay_redeliveries_total", "") >= REQUESTS as f64);
    proxy.heal();
    world.settled().await;
}
