//! What the API server says, or does not say, at the wrong moment.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::api_proxy::{ApiProxy, Calls, Fault, Lie};
use crate::support::{Producer, Request, World};

/// Calls without an answer are given up soon.
const IMPATIENT: [&str; 1] = ["kubernetes.call_timeout=3s"];

/// Sends `keys` requests, each of them twice under an id of its own, and waits until all are answered.
async fn ask(producer: &mut Producer, round: &str, keys: usize) -> Duration {
    let begun = Instant::now();
    let mut owed = HashSet::new();
    for number in 0..keys * 2 {
        let script = format!("sleep 1; echo {round} {}", number % keys);
        owed.insert(producer.send(Request::template("script", &json!({"script": script}))).await);
    }
    let events = all_answers(producer, &owed).await;
    let took = begun.elapsed();
    assert_agreement(&events);
    assert_eq!(events.len(), owed.len(), "{round}: nobody is told twice");
    for event in &events {
        assert_eq!(event.state(), "succeeded", "{round}: {:?}", event.data());
        assert!(event.result("text").as_str().is_some_and(|text| text.starts_with(&format!("{round} "))), "{round}");
    }
    took
}

/// One round for each fault, which meets the next calls of its kind.
async fn through(world: &str, faults: &[(Calls, Fault, usize)]) {
    let world = World::new(world).await;
    let recorder = world.recorder();
    let proxy = ApiProxy::start(&world).await;
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &IMPATIENT).await;
    let mut producer = world.producer().await;
    for (number, (calls, fault, times)) in faults.iter().enumerate() {
        proxy.fault(*calls, *fault, *times);
        let took = ask(&mut producer, &format!("round-{number}"), 3).await;
        let met = proxy.heal();
        println!("{calls:?} {fault:?}: met {met}, answered after {:.1} s", took.as_secs_f64());
        assert!(met > 0, "{calls:?} {fault:?} met no call");
    }
    assert_eq!(recorder.jobs(), faults.len() * 3, "every key has run once");
    recorder.assert_sound();
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_that_was_carried_out_and_answered_otherwise_has_run_once() {
    through(
        "lost-creates",
        &[
            (Calls::Creates, Fault::CommitsAndSays(504), 3),
            (Calls::Creates, Fault::CommitsAndSays(500), 3),
            (Calls::Creates, Fault::CommitsAndSays(502), 3),
            (Calls::Creates, Fault::CommitsAndSays(503), 3),
            (Calls::Creates, Fault::CommitsAndResets, 3),
            (Calls::Creates, Fault::CommitsAndHangs, 3),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_or_delete_that_was_carried_out_and_answered_otherwise_changes_nothing() {
    through(
        "lost-patches",
        &[
            (Calls::JobPatches, Fault::CommitsAndSays(504), 4),
            (Calls::JobPatches, Fault::CommitsAndSays(500), 4),
            (Calls::JobPatches, Fault::CommitsAndResets, 4),
            (Calls::JobPatches, Fault::CommitsAndHangs, 4),
            (Calls::PodPatches, Fault::CommitsAndSays(504), 3),
            (Calls::PodPatches, Fault::CommitsAndResets, 3),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_fails_is_made_again() {
    through(
        "failed-calls",
        &[
            (Calls::Any, Fault::Says(429), 20),
            (Calls::Any, Fault::Says(500), 20),
            (Calls::Any, Fault::Says(503), 20),
            (Calls::Any, Fault::Resets, 20),
            (Calls::Any, Fault::Hangs, 6),
            (Calls::Any, Fault::Slow(Duration::from_secs(1)), 30),
            (Calls::Logs, Fault::Says(500), 3),
            (Calls::Logs, Fault::Resets, 3),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_ends_lies_or_says_things_twice_holds_up_no_answer() {
    through(
        "lying-watches",
        &[
            (Calls::JobWatches, Fault::Resets, 3),
            (Calls::JobWatches, Fault::Says(500), 2),
            (Calls::JobWatches, Fault::Lies(Lie::Ends), 5),
            (Calls::JobWatches, Fault::Lies(Lie::Gone), 3),
            (Calls::JobWatches, Fault::Lies(Lie::Repeats), 2),
            (Calls::JobWatches, Fault::Lies(Lie::Late(Duration::from_millis(200))), 2),
            (Calls::JobWatches, Fault::Lies(Lie::Stale), 2),
            (Calls::JobWatches, Fault::Lies(Lie::Garbage), 3),
        ],
    )
    .await;
}

/// A server of a cluster that is behind the others. Its list shows a Job that runs, which has been answered and is gone.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_starts_with_a_list_from_the_past_tells_and_runs_nothing_again() {
    let world = World::new("stale-list").await;
    let recorder = world.recorder();
    let proxy = ApiProxy::start(&world).await;
    let request = || Request::template("script", &json!({"script": "sleep 8; echo once"}));
    let mut producer = world.producer().await;
    let mut dispatcher = world.dispatcher_in(&proxy.environment(), &IMPATIENT).await;
    let id = producer.send(request()).await;
    world.the_job().await;
    dispatcher.kill();
    let mut dispatcher = world.dispatcher_in(&proxy.environment(), &IMPATIENT).await;
    let past = proxy.lists() - 1;
    let event = producer.event().await;
    assert_eq!((event.request_id(), event.state()), (id.as_str(), "succeeded"));
    world.settled().await;
    dispatcher.kill();
    proxy.fault(Calls::JobLists, Fault::SaysList(past), 1);
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &IMPATIENT).await;
    assert_eq!(proxy.heal(), 1, "it began with that list");
    assert!(producer.event_within(Duration::from_secs(10)).await.is_none(), "told once");
    assert_eq!(producer.ask(request()).await.served_by(), "cache");
    assert_eq!(recorder.jobs(), 1);
    recorder.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn what_a_watch_does_not_say_is_found_all_the_same() {
    through(
        "silent-watches",
        &[(Calls::JobWatches, Fault::Lies(Lie::Silent), 1), (Calls::JobWatches, Fault::Lies(Lie::Drops), 4)],
    )
    .await;
}

/// The exit code and the end of the log are in its pods, and nobody looks again once it was told.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_waits_until_its_pods_can_be_listed() {
    let world = World::new("unlisted-pods").await;
    let proxy = ApiProxy::start(&world).await;
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &IMPATIENT).await;
    let mut producer = world.producer().await;
    for (number, fault) in [Fault::Says(403), Fault::Says(500), Fault::Resets].into_iter().enumerate() {
        proxy.fault(Calls::PodLists, fault, 3);
        let request = json!({"script": format!("echo why {number}; exit 3")});
        let event = producer.ask(Request::template("script", &request)).await;
        assert_eq!((event.error("code"), event.error("exit_code")), (&json!("job.failed"), &json!(3)), "{fault:?}");
        assert_eq!(event.error("log_tail"), &json!(format!("why {number}")), "{fault:?}");
        assert!(proxy.heal() > 0, "{fault:?} met no call");
    }
    world.settled().await;
}

/// By the time that anyone can look, the Job has ended: taken for one that was never made, it would run again, or
/// its result would be told a second time.
#[tokio::test(flavor = "multi_thread")]
async fn a_create_without_an_answer_is_answered_once_although_its_job_has_ended_meanwhile() {
    let world = World::new("late-look").await;
    let recorder = world.recorder();
    let proxy = ApiProxy::start(&world).await;
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &IMPATIENT).await;
    let mut producer = world.producer().await;
    let faults = [
        (Fault::CommitsAndSays(500), 503, 12),
        (Fault::CommitsAndSays(503), 503, 12),
        (Fault::CommitsAndResets, 503, 12),
        (Fault::CommitsAndSays(504), 429, 1),
        (Fault::CommitsAndResets, 403, 1),
    ];
    for (number, (fault, look, times)) in faults.into_iter().enumerate() {
        proxy.fault(Calls::Creates, fault, 1);
        proxy.fault(Calls::Gets, Fault::Says(look), times);
        let request = json!({"script": format!("echo late {number}; exit 3")});
        let event = producer.ask(Request::template("script", &request)).await;
        assert_eq!((event.state(), event.served_by()), ("failed", "executed"));
        assert!(producer.event_within(Duration::from_secs(6)).await.is_none(), "{fault:?}: told once");
        proxy.heal();
    }
    assert_eq!(recorder.jobs(), faults.len(), "each has run once");
    recorder.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_has_too_much_to_do_is_not_asked_all_the_time() {
    const REQUESTS: usize = 40;
    let world = World::new("too-many").await;
    let proxy = ApiProxy::start(&world).await;
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &IMPATIENT).await;
    let mut producer = world.producer().await;
    proxy.fault(Calls::Any, Fault::Says(429), usize::MAX);
    let requests =
        (0..REQUESTS).map(|number| Request::template("script", &json!({"script": format!("echo {number}")})));
    let owed: HashSet<_> = producer.send_many(requests).await.into_iter().collect();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let asked = proxy.heal();
    println!("{asked} calls for {REQUESTS} requests in 10 s");
    // From 100 ms on each pause is twice the one before: 8 tries in this time, each a create, or a look and a create. Without
    // pauses there would be thousands.
    assert!((1..REQUESTS * 20).contains(&asked), "{asked} calls in 10 s");
    let events = all_answers(&mut producer, &owed).await;
    assert!(events.iter().all(|event| event.state() == "succeeded"));
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_an_api_server_that_is_away_keep_none_out_that_the_cache_answers() {
    hits_pass_behind_misses("room-for-hits", Fault::Says(503)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_an_api_server_that_hangs_keep_none_out_that_the_cache_answers() {
    hits_pass_behind_misses("hang-and-hits", Fault::Hangs).await;
}

async fn hits_pass_behind_misses(world: &str, fault: Fault) {
    let world = World::new(world).await;
    let proxy = ApiProxy::start(&world).await;
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &["amqp.prefetch=4", IMPATIENT[0]]).await;
    let (mut kept, mut others) = (world.producer().await, world.producer().await);
    let request = |text: &str| Request::template("script", &json!({"script": format!("echo {text}")}));
    assert_eq!(kept.ask(request("kept")).await.state(), "succeeded");
    proxy.fault(Calls::Any, fault, usize::MAX);
    let mut owed = HashSet::new();
    for number in 0..8 {
        owed.insert(others.send(request(&number.to_string())).await);
    }
    let begun = Instant::now();
    let event = tokio::time::timeout(Duration::from_secs(40), kept.ask(request("kept"))).await;
    println!("the hit behind 8 misses took {:?}", begun.elapsed());
    assert_eq!(event.expect("a hit needs no API server").served_by(), "cache");
    assert!(proxy.heal() > 8);
    let events = all_answers(&mut others, &owed).await;
    assert_eq!(events.len(), 8);
    assert!(events.iter().all(|event| (event.state(), event.served_by()) == ("succeeded", "executed")));
    world.settled().await;
}
