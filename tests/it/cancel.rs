//! Cancellations: of what is queued, waits, runs or has ended; by whom; and who gets which answer.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::api_proxy::{ApiProxy, Calls, Fault};
use crate::support::{Event, Producer, Request, World, eventually};

fn script(text: &str) -> Request {
    Request::template("script", &json!({"script": text}))
}

fn cancel(id: &str) -> Request {
    Request::json(&json!({"cancel": {"request_id": id, "reason": "wrong bucket"}}))
}

/// Sends a cancellation and gives back its answer and the event that came beside it, if one did.
pub(crate) async fn cancelled(producer: &mut Producer, id: &str) -> (Value, Option<Event>) {
    let cancellation = producer.send(cancel(id)).await;
    let mut other = None;
    loop {
        let event = producer.event().await;
        if event.request_id() == cancellation {
            assert_eq!(event.state(), "succeeded");
            return (event.result("json")["outcome"].clone(), other);
        }
        other = Some(event);
    }
}

async fn no_jobs(world: &World) {
    eventually("no Job is left", async || world.all_jobs().await.is_empty().then_some(())).await;
}

async fn running(world: &World, count: usize) {
    eventually("the Jobs live", async || (world.all_jobs().await.len() == count).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_request_is_cancelled_its_job_goes_and_both_are_told() {
    let world = World::new("cancel").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let id = producer.send(script("sleep 600")).await;
    world.running_pod().await;
    let (outcome, event) = cancelled(&mut producer, &id).await;
    let event = event.expect("the request's own answer");
    assert_eq!(outcome, "cancelled");
    assert_eq!(
        (event.request_id(), event.state(), event.error("message")),
        (id.as_str(), "cancelled", &json!("wrong bucket"))
    );
    no_jobs(&world).await;
    eventually("its pod stops", async || {
        world.pods().list(&kube::api::ListParams::default()).await.expect("pods").items.is_empty().then_some(())
    })
    .await;
    assert!(producer.event_within(Duration::from_secs(2)).await.is_none(), "nobody is told twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_lives_on_until_the_last_of_three_has_cancelled() {
    let world = World::new("cancel-three").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(producer.send(script("sleep 600")).await);
    }
    eventually("all have joined", async || (dispatcher.metric("jobquay_jobs_joined_total", "") == 2.0).then_some(()))
        .await;
    for id in &ids[..2] {
        assert_eq!(cancelled(&mut producer, id).await.0, "cancelled");
        assert_eq!(world.all_jobs().await.len(), 1, "others wait on it still");
    }
    assert_eq!(cancelled(&mut producer, &ids[1]).await.0, "cancelled", "twice is once");
    assert_eq!(cancelled(&mut producer, &ids[2]).await.0, "cancelled");
    no_jobs(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_cancels_and_the_other_gets_the_result() {
    let world = World::new("cancel-one").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let first = producer.send(script("sleep 8; echo done")).await;
    let second = producer.send(script("sleep 8; echo done")).await;
    eventually("both wait", async || (dispatcher.metric("jobquay_jobs_joined_total", "") == 1.0).then_some(())).await;
    let (_, event) = cancelled(&mut producer, &first).await;
    assert_eq!(event.expect("its answer").state(), "cancelled");
    let event = producer.event().await;
    assert_eq!((event.request_id(), event.state()), (second.as_str(), "succeeded"));
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_in_its_lane_is_cancelled_there() {
    let world = World::new("cancel-lane").await;
    let dispatcher = world.dispatcher_with(&["limits.in_flight=1"]).await;
    let mut producer = world.producer().await;
    producer.send(script("sleep 600; echo first")).await;
    running(&world, 1).await;
    let waiting = producer.send(script("echo second")).await;
    eventually("it waits", async || (dispatcher.metric("jobquay_requests_parked_total", "") == 1.0).then_some(()))
        .await;
    let (outcome, event) = cancelled(&mut producer, &waiting).await;
    assert_eq!(outcome, "awaited");
    let event = match event {
        Some(event) => event,
        None => producer.event().await,
    };
    assert_eq!((event.request_id(), event.state()), (waiting.as_str(), "cancelled"));
    assert_eq!(world.all_jobs().await.len(), 1, "it has begun nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_that_overtakes_its_request_holds() {
    let world = World::new("cancel-early").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    assert_eq!(cancelled(&mut producer, "not-here-yet").await.0, "awaited");
    let event = producer.ask(script("echo x").id("not-here-yet")).await;
    assert_eq!((event.state(), event.error("message")), ("cancelled", &json!("wrong bucket")));
    assert!(world.all_jobs().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_not_cancelled() {
    let world = World::new("cancel-late").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let event = producer.ask(script("echo x")).await;
    assert_eq!(event.state(), "succeeded");
    let id = event.request_id().to_owned();
    let (outcome, event) = cancelled(&mut producer, &id).await;
    assert_eq!((outcome, event.is_none()), (json!("finished"), true));
    let again = json!({"template": "script", "params": {"script": "echo x"}, "cache": {"mode": "refresh"}});
    assert_eq!(
        producer.ask(Request::json(&again).id(&id)).await.state(),
        "succeeded",
        "it is not cancelled later either"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_cancels_what_is_another_producers() {
    let world = World::new("cancel-other").await;
    let _dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    let id = producer.send(Request { user_id: Some("guest".into()), ..script("sleep 600") }).await;
    running(&world, 1).await;
    let user = format!("other-{}", world.name);
    world.broker.set_permissions(&user, "secret", ".*", ".*");
    let url = world.broker.url().replace("guest:guest", &format!("{user}:secret"));
    let replies = producer.replies.clone();
    drop(producer);
    let mut other = Producer::connect_without_queue(&url, &replies).await;
    let event = other.ask(Request { user_id: Some(user), ..cancel(&id) }).await;
    assert_eq!(
        (event.state(), event.error("code"), event.error("pointer")),
        ("rejected", &json!("policy.denied"), &json!("/cancel/request_id"))
    );
    assert_eq!(world.all_jobs().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_to_those_who_want_it_and_always_on_the_exchange() {
    let world = World::new("progress").await;
    let _dispatcher = world.dispatcher_with(&["events.exchange=jobquay.events"]).await;
    world.broker.declare("everything", &json!({}));
    world.broker.bind("jobquay.events", "everything", "job.#");
    let mut producer = world.producer().await;
    let params = json!({"script": "sleep 4; echo x"});
    let all = producer.send(Request::json(&json!({"template": "script", "params": params, "events": "all"}))).await;
    let states: Vec<_> = producer
        .events(3)
        .await
        .iter()
        .map(|event| {
            assert_eq!(event.request_id(), all);
            (event.state().to_owned(), event.data()["terminal"].clone())
        })
        .collect();
    let expected = [("accepted", false), ("started", false), ("succeeded", true)]
        .map(|(state, terminal)| (state.to_owned(), json!(terminal)));
    assert_eq!(states, expected);
    let terminal = producer.ask(Request::template("script", &json!({"script": "sleep 4; echo y"}))).await;
    assert_eq!(terminal.state(), "succeeded", "the others get the end only");
    let keys: Vec<_> = world
        .broker
        .drain("everything")
        .iter()
        .map(|message| message["routing_key"].as_str().unwrap_or_default().to_owned())
        .collect();
    for state in ["accepted", "started", "succeeded"] {
        assert_eq!(keys.iter().filter(|key| **key == format!("job.{state}.script")).count(), 2, "{keys:?}");
    }
}

/// It is looked for on its Job, found, and gone a moment later: nobody knows any more whether an earlier try has cancelled it.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_request_whose_job_goes_while_it_is_looked_at_it_is_not_said_that_it_had_finished() {
    let world = World::new("cancel-gone").await;
    let proxy = ApiProxy::start(&world).await;
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &["kubernetes.call_timeout=30s"]).await;
    let mut producer = world.producer().await;
    let id = producer.send(script("sleep 4; exit 1")).await;
    world.running_pod().await;
    let name = world.the_job().await.metadata.name.unwrap_or_default();
    // What lists the Jobs passes; the look at the one that it finds takes its time.
    proxy.fault(Calls::JobLists, Fault::Slow(Duration::ZERO), 1);
    proxy.fault(Calls::Gets, Fault::Slow(Duration::from_secs(12)), 1);
    let cancellation = producer.send(cancel(&id)).await;
    assert_eq!(producer.event().await.state(), "failed");
    world.settled().await;
    world.jobs().delete(&name, &kube::api::DeleteParams::background()).await.expect("a delete");
    let answer = producer.event().await;
    assert_eq!((answer.request_id(), &answer.result("json")["outcome"]), (cancellation.as_str(), &json!("awaited")));
    assert_eq!(proxy.heal(), 2);
    world.settled().await;
}
