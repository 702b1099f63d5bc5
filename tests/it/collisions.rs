//! A create that meets a Job of its name: the branches that are not seen in a plain run.

use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cache_control::redis;
use crate::support::{Request, World, eventually};

fn request(id: &str, script: &str) -> Request {
    Request::template("script", &json!({"script": script})).id(id)
}

/// (c) An ended Job that still owes answers is joined, not run again.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_has_ended_and_owes_answers_is_joined() {
    let world = World::new("join-ended").await;
    let recorder = world.recorder();
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    producer.send(request("first", "sleep 1; echo shared")).await;
    let name = world.the_job().await.metadata.name.unwrap_or_default();
    dispatcher.kill();
    eventually("the Job has ended", async || {
        jobquay::domain::job::ending(&world.jobs().get(&name).await.expect("the Job"))
    })
    .await;
    producer.send(request("second", "sleep 1; echo shared")).await;
    let _next = world.dispatcher().await;
    let events = producer.events(2).await;
    let mut served: Vec<_> = events.iter().map(|event| (event.request_id(), event.served_by())).collect();
    served.sort_unstable();
    assert_eq!(served[0], ("first", "executed"));
    // By the time the second is taken up the first may be answered already, which leaves its value in the cache.
    assert!(["coalesced", "cache"].contains(&served[1].1), "{served:?}");
    assert_eq!(recorder.jobs(), 1);
}

/// (b) A Job that is going away is waited for, and then there is a new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_going_away_is_not_joined() {
    let world = World::new("terminating").await;
    let recorder = world.recorder();
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    producer.ask(request("first", "exit 3")).await;
    world.settled().await;
    let job = world.the_job().await;
    let name = job.metadata.name.unwrap_or_default();
    // Somebody else's finalizer holds it in deletion.
    let hold = Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold"]}}));
    world.jobs().patch(&name, &PatchParams::default(), &hold).await.expect("a patch");
    world.jobs().delete(&name, &kube::api::DeleteParams::background()).await.expect("a delete");
    producer.send(request("second", "exit 3")).await;
    assert!(producer.event_within(Duration::from_secs(2)).await.is_none(), "it waits");
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.jobs().patch(&name, &PatchParams::default(), &release).await.expect("a patch");
    let event = producer.event().await;
    assert_eq!((event.request_id(), event.state(), event.served_by()), ("second", "failed", "executed"));
    assert_eq!(recorder.jobs(), 2);
}

/// (e) An ended Job that has answered everyone stands in the way only as long as the cache has its result.
#[tokio::test(flavor = "multi_thread")]
async fn an_answered_job_whose_result_is_gone_makes_room() {
    let world = World::new("makes-room").await;
    let recorder = world.recorder();
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let first = producer.ask(request("first", "cat /proc/sys/kernel/random/uuid")).await;
    world.settled().await;
    let key = first.data()["key"].as_str().expect("a key").trim_start_matches("sha256:").to_owned();
    let () = redis::cmd("DEL").arg(format!("jobquay:result:{key}")).query_async(&mut redis().await).await.expect("DEL");
    let second = producer.ask(request("second", "cat /proc/sys/kernel/random/uuid")).await;
    assert_eq!(second.served_by(), "executed");
    assert_ne!(first.result("text"), second.result("text"));
    assert_eq!(recorder.jobs(), 2);
    recorder.assert_sound();
}

/// (d) A redelivered request that was answered is only acknowledged: by its record in Redis, and
/// without Redis by the Job.
#[tokio::test(flavor = "multi_thread")]
async fn a_redelivered_request_that_was_answered_is_not_answered_again() {
    for forgets in [false, true] {
        let world = World::new("answered").await;
        let recorder = world.recorder();
        let mut dispatcher = world.dispatcher().await;
        let mut producer = world.producer().await;
        let first = producer.ask(request("once", "exit 4")).await;
        assert_eq!(first.state(), "failed");
        world.settled().await;
        // With its consumer stopped the message is in nobody's hand; taken and handed back, it is "redelivered".
        dispatcher.kill();
        if forgets {
            let mut redis = redis().await;
            let mut keys: Vec<String> =
                redis::cmd("KEYS").arg("jobquay:answered:*").query_async(&mut redis).await.expect("KEYS");
            let waiter = world.the_job().await.metadata.annotations.unwrap_or_default();
            keys.retain(|key| waiter.contains_key(&key.replace("jobquay:answered:", "jobquay.dev/w.")));
            assert_eq!(keys.len(), 1);
            let () = redis::cmd("DEL").arg(&keys).query_async(&mut redis).await.expect("DEL");
        } else {
            let name = world.the_job().await.metadata.name.unwrap_or_default();
            world.jobs().delete(&name, &kube::api::DeleteParams::background()).await.expect("a delete");
        }
        producer.send(request("once", "exit 4")).await;
        redeliver(&world).await;
        let next = world.dispatcher().await;
        eventually("it is taken", async || (next.metric("jobquay_redeliveries_total", "") >= 1.0).then_some(())).await;
        assert!(producer.event_within(Duration::from_secs(3)).await.is_none(), "forgets: {forgets}");
        assert_eq!(recorder.jobs(), 1, "a redelivery is no new try");
    }
}

/// Takes a request and hands it back.
pub(crate) async fn redeliver(world: &World) {
    use futures_util::StreamExt;
    use lapin::options::{BasicConsumeOptions, BasicNackOptions};
    let connection = lapin::Connection::connect(&world.broker.url(), lapin::ConnectionProperties::default())
        .await
        .expect("a connection");
    let channel = connection.create_channel().await.expect("a channel");
    let mut deliveries = channel
        .basic_consume(
            "jobquay.requests".into(),
            "".into(),
            BasicConsumeOptions::default(),
            lapin::types::FieldTable::default(),
        )
        .await
        .expect("a consumer");
    let delivery = deliveries.next().await.expect("a delivery").expect("a delivery");
    delivery.nack(BasicNackOptions { requeue: true, multiple: false }).await.expect("a nack");
    connection.close(200, "done".into()).await.expect("a goodbye");
}

/// A refresh wants a result that was not there before it: an ended Job is waited for and not joined.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_does_not_join_a_job_that_has_ended() {
    let world = World::new("refresh-ended").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let script = "sleep 1; cat /proc/sys/kernel/random/uuid";
    producer.send(request("first", script)).await;
    let name = world.the_job().await.metadata.name.unwrap_or_default();
    dispatcher.kill();
    let ended = async || jobquay::domain::job::ending(&world.jobs().get(&name).await.expect("the Job"));
    eventually("the Job has ended", ended).await;
    let refresh = json!({"template": "script", "params": {"script": script}, "cache": {"mode": "refresh"}});
    producer.send(Request::json(&refresh).id("second")).await;
    let _next = world.dispatcher().await;
    let mut events = producer.events(2).await;
    events.sort_by_key(|event| event.request_id().to_owned());
    assert_eq!((events[0].served_by(), events[1].served_by()), ("executed", "executed"));
    assert_ne!(events[0].result("text"), events[1].result("text"));
}
