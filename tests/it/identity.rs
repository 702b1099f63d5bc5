//! A dispatcher whose rights in the cluster are no more than the shipped ones: what they are good for, and what
//! happens while it has not got them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use jobquay::domain::job::{Ending, ending};
use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::identity::Identity;
use crate::support::{Event, Producer, Recorder, Request, Sighting, World, eventually};

const KEYS: usize = 4;

/// Four keys, each asked for twice, of which the last fails.
async fn send(producer: &Producer, round: &str) -> HashSet<String> {
    let mut ids = HashSet::new();
    for number in 0..KEYS * 2 {
        let key = number % KEYS;
        let end = if key == KEYS - 1 { 3 } else { 0 };
        let script = format!("sleep {key}; echo {round} {key}; exit {end}");
        ids.insert(producer.send(Request::template("script", &json!({"script": script}))).await);
    }
    ids
}

/// Each was told its Job's end, and nothing of what the dispatcher went through. Told again at most once: without a Lease it
/// loses its shards, and whoever has them next, which is itself, does not know whom it has answered of the Jobs that it
/// could not release.
fn assert_jobs_ended(events: &[Event], owed: &HashSet<String>) {
    assert_agreement(events);
    let mut failed = HashSet::new();
    for event in events {
        let told = events.iter().filter(|other| other.request_id() == event.request_id()).count();
        assert!(told <= 2, "told {told} times: {}", event.body);
        if event.state() == "failed" {
            assert_eq!((event.error("code"), event.error("exit_code")), (&json!("job.failed"), &json!(3)));
            failed.insert(event.request_id());
        } else {
            assert_eq!(event.state(), "succeeded", "{}", event.body);
        }
    }
    assert_eq!(failed.len(), owed.len() / KEYS);
}

/// A key that fails is another matter: whoever asks for it after its end is owed a run of its own.
fn assert_each_key_succeeded_once(recorder: &Recorder) {
    let succeeded = |sighting: &Sighting| ending(&sighting.job) == Some(Ending::Succeeded);
    let jobs: HashSet<_> =
        recorder.sightings().into_iter().filter(succeeded).map(|sighting| sighting.job.metadata.uid).collect();
    assert_eq!(jobs.len(), 2 * (KEYS - 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_in_the_cluster_that_are_taken_away_and_given_back_lose_nothing() {
    let world = World::new("cluster-rights").await;
    let recorder = world.recorder();
    let identity = Identity::create(&world);
    let mut dispatcher = world.dispatcher_in(&identity.environment(), &[]).await;
    let mut producer = world.producer().await;
    let mut owed = send(&producer, "before").await;
    world.the_first_job().await;
    identity.revoke();
    owed.extend(send(&producer, "during").await);
    dispatcher.says("no place for a request yet").await;
    dispatcher.says("completion failed; trying again").await;
    world.pause(Duration::from_secs(10)).await;
    identity.grant();
    let granted = Instant::now();
    let events = all_answers(&mut producer, &owed).await;
    println!("all answered {:.1} s after the rights came back", granted.elapsed().as_secs_f64());
    assert_jobs_ended(&events, &owed);
    assert_each_key_succeeded_once(&recorder);
    assert!(!dispatcher.has_ended());
    dispatcher.ready().await;
    recorder.assert_sound();
    world.settled().await;
}

/// The result is there, and can be read as soon as the right is.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_read_logs_a_result_is_waited_for() {
    let world = World::new("log-rights").await;
    let identity = Identity::create(&world);
    let _dispatcher = world.dispatcher_in(&identity.environment(), &["results.grace=1s"]).await;
    let mut producer = world.producer().await;
    identity.grant_without("pods/log");
    producer.send(Request::template("script", &json!({"script": "echo unread"}))).await;
    let early = producer.event_within(Duration::from_secs(12)).await;
    assert!(early.is_none(), "{:?}", early.map(|event| event.body));
    identity.grant();
    let event = producer.event().await;
    assert_eq!((event.state(), event.result("text")), ("succeeded", &json!("unread\n")));
    world.settled().await;
}

/// It reads the file anew within a minute; until then the API server does not know it.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_replaced_in_its_file_and_then_ended_loses_nothing() {
    let world = World::new("token").await;
    let recorder = world.recorder();
    let identity = Identity::create(&world);
    let mut dispatcher = world.dispatcher_in(&identity.environment(), &[]).await;
    let mut producer = world.producer().await;
    let mut owed = send(&producer, "before").await;
    world.the_first_job().await;
    identity.renew_token("second");
    identity.end_token("first");
    let ended = Instant::now();
    eventually("the old token is worth nothing", async || dispatcher.log().contains("Unauthorized").then_some(()))
        .await;
    let refused = ended.elapsed();
    owed.extend(send(&producer, "during").await);
    let events = all_answers(&mut producer, &owed).await;
    let answered = ended.elapsed();
    println!("refused after {refused:?}, all answered after {answered:?}");
    assert_jobs_ended(&events, &owed);
    assert_each_key_succeeded_once(&recorder);
    assert!(!dispatcher.has_ended());
    dispatcher.ready().await;
    recorder.assert_sound();
    world.settled().await;
}
