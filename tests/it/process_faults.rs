//! What happens to the process itself: a wrong clock, a log that nobody reads or that cannot be written, no file
//! descriptors left, no memory, hardly any processor.

use std::collections::{HashMap, HashSet};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use crate::crashes::{all_answers, assert_agreement, assert_told_once};
use crate::replicas::shared_by;
use crate::support::api_proxy::ApiProxy;
use crate::support::checker::{Budget, Deadline, Struck, Wish};
use crate::support::dispatcher::{Clock, FULL_DISK, UNREAD, starve};
use crate::support::memory::MemoryLimit;
use crate::support::{Dispatcher, Event, Load, PATIENCE, Plan, Producer, Recorder, Request, World, eventually};

/// Twelve requests over six keys, of which each is answered once.
async fn all_are_answered(producer: &mut Producer, round: &str) {
    let mut owed = HashSet::new();
    for number in 0..12 {
        let script = format!("sleep 1; echo {round} {}", number % 6);
        owed.insert(producer.send(Request::template("script", &json!({"script": script}))).await);
    }
    let events = all_answers(producer, &owed).await;
    assert_agreement(&events);
    assert_eq!(events.len(), owed.len(), "{round}: told once");
    for event in &events {
        assert_eq!(event.state(), "succeeded", "{round}: {:?}", event.data());
    }
}

/// By how many hours the clock of whoever told this is ahead.
fn hours_ahead(event: &Event) -> f64 {
    let told: Timestamp = event.body["time"].as_str().and_then(|time| time.parse().ok()).expect("an event has a time");
    (told.duration_since(Timestamp::now()).as_secs_f64() / 3600.0).round()
}

/// By a clock that is an hour ahead every Job would have taken too long before it began. (Without TLS, for by one that
/// is behind the API server's certificate is not valid yet.)
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_an_hour_off_gives_no_job_up_and_forgets_none() {
    for (offset, hours) in [("+1h", 1.0), ("-1h", -1.0)] {
        let world = World::new("clock").await;
        let (proxy, clock) = (ApiProxy::start(&world).await, Clock::of(&world));
        clock.set(offset);
        let _dispatcher = world.dispatcher_in(&[&proxy.environment()[..], &clock.environment()].concat(), &[]).await;
        let mut producer = world.producer().await;
        all_are_answered(&mut producer, "off").await;
        // One whose image is not there is given up by its limit, neither at once nor never.
        let begun = Instant::now();
        let event = producer.ask(Request::template("starts", &json!({"image": "127.0.0.1:1/no/such:1"}))).await;
        assert_eq!((event.state(), event.error("code")), ("failed", &json!("start.image")), "{offset}");
        let took = begun.elapsed().as_secs();
        assert!((7..=40).contains(&took), "{offset}: {took} s");
        assert_eq!(hours_ahead(&event), hours, "its clock is off");
        world.settled().await;
    }
}

/// Each jump of a clock: from which offset to which, and by how many hours it is off then.
const JUMPS: [(&str, &str, f64); 4] = [("+0", "+1h", 1.0), ("+1h", "+0", 0.0), ("+0", "-1h", -1.0), ("-1h", "+0", 0.0)];
/// By such a clock a deadline that is minutes away has passed.
const AHEAD: &str = "+1h";

/// What is asked before a jump: by request, whether it waits for a slot then, and whether its deadline is minutes away.
type InHand = HashMap<String, (bool, bool)>;

/// Begins four, two of them in all the slots of their template, and has four more wait in its lane.
async fn take_in_hand(two: &[Dispatcher], producer: &Producer, recorder: &Recorder, number: usize) -> InHand {
    let ask = async |template: &str, place: usize, is_due: bool| {
        let script = format!("sleep {}; echo {number} {place}", if place < 4 { 12 } else { 1 });
        let mut body = json!({"template": template, "params": {"script": script}});
        if is_due {
            body["deadline"] = json!(Timestamp::now() + Duration::from_secs(300));
        }
        producer.send(Request::json(&body)).await
    };
    // Those that are late at once neither begin nor wait.
    let late = usize::from(JUMPS[number].0 == AHEAD);
    let (begun, mut in_hand) = (recorder.jobs(), InHand::new());
    for (place, template) in ["narrow", "narrow", "script", "script"].into_iter().enumerate() {
        in_hand.insert(ask(template, place, place == 3).await, (false, place == 3));
    }
    eventually("they begin", async || (recorder.jobs() == begun + 4 - late).then_some(())).await;
    // Which slots are free each of the two learns from its own watch.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = total(two, "jobquay_requests_parked_total");
    for place in 4..8 {
        in_hand.insert(ask("narrow", place, place >= 6).await, (true, place >= 6));
    }
    let waiting = 4 - 2 * late;
    eventually("the others wait", async || {
        (total(two, "jobquay_requests_parked_total") == before + waiting).then_some(())
    })
    .await;
    in_hand
}

fn total(dispatchers: &[Dispatcher], metric: &str) -> usize {
    dispatchers.iter().map(|one| one.metric(metric, "")).sum::<f64>() as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_by_an_hour_ends_only_those_that_wait_and_whose_deadline_it_has_passed() {
    let world = World::new("jump").await;
    let (recorder, proxy, clock) = (world.recorder(), ApiProxy::start(&world).await, Clock::of(&world));
    let environment = [&proxy.environment()[..], &clock.environment()].concat();
    // Longer than a busy machine keeps a renewal waiting, and shorter than the jump.
    let begin = || world.dispatcher_in(&environment, &["members.lease=30s"]);
    let two = [begin().await, begin().await];
    shared_by(&two.each_ref()).await;
    let moves = total(&two, "jobquay_shard_moves_total");
    let mut producer = world.producer().await;
    let mut jobs = 0;
    for (number, (from, to, hours)) in JUMPS.into_iter().enumerate() {
        let in_hand = take_in_hand(&two, &producer, &recorder, number).await;
        let begun = recorder.jobs();
        clock.set(to);
        assert_eq!(recorder.jobs(), begun, "those that wait do so still");
        let owed = in_hand.keys().cloned().collect();
        let events = all_answers(&mut producer, &owed).await;
        let moved = total(&two, "jobquay_shard_moves_total") - moves;
        assert_eq!(moved, 0, "from {from} to {to}: nobody took the other for gone, or itself");
        assert_told_once(&events, &owed);
        for event in &events {
            let (waits, is_due) = in_hand[event.request_id()];
            let is_late = is_due && (from == AHEAD || waits && to == AHEAD);
            let state = if is_late { "expired" } else { "succeeded" };
            assert_eq!(event.state(), state, "from {from} to {to}: {}", event.data());
            jobs += usize::from(!is_late);
        }
        assert_eq!(events.last().map(hours_ahead), Some(hours), "from {from} to {to}: it has jumped");
        assert_eq!(recorder.jobs(), jobs, "one for each that was not late");
    }
    recorder.assert_sound();
    world.settled().await;
}

/// What one of them has kept, recorded and put into a lane the other reads by another clock.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn every_promise_is_kept_by_two_of_which_one_has_a_clock_that_jumps_under_load() {
    const KEYS: usize = 6;
    let world = World::new("jumps").await;
    let (proxy, clock) = (ApiProxy::start(&world).await, Clock::of(&world));
    let environment = [&proxy.environment()[..], &clock.environment()].concat();
    let _two = [world.dispatcher_in(&environment, &[]).await, world.dispatcher().await];
    let (load, begun) = (Load::begin(&world, Plan::new(240, 4.0, KEYS).seed(5)).await, Instant::now());
    let mut behind = Duration::MAX;
    for [(_, to, _), (_, back, _)] in [[JUMPS[0], JUMPS[1]], [JUMPS[2], JUMPS[3]]] {
        tokio::time::sleep(Duration::from_secs(12)).await;
        if to == "-1h" {
            behind = begun.elapsed();
        }
        // What is kept for an hour is over, or not over yet, by a clock that is an hour off, as if it were not there.
        let off = load.fault(Struck::Redis, format!("a clock that is off by {to}"));
        clock.set(to);
        tokio::time::sleep(Duration::from_secs(12)).await;
        clock.set(back);
        load.over(off);
    }
    let mut history = load.finish().await;
    // By a clock that is behind, what was over when it was sent is not.
    for asked in history.requests.iter_mut().filter(|asked| asked.at + Duration::from_secs(2) > behind) {
        if let Wish::Run { deadline, .. } = &mut asked.wish {
            *deadline = if *deadline == Deadline::Past { Deadline::Near } else { *deadline };
        }
    }
    println!("{}", history.figures());
    let budget = Budget { extra_jobs: JUMPS.len() * 2 * KEYS, ..Budget::of(0, 0).with_skew(Duration::from_secs(2)) };
    history.assert_clean(&budget);
}

/// A pipe that nobody reads is full after 64 KiB, and memory takes 4 MiB more.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_nothing_up_and_says_later_that_it_lacks_lines() {
    let world = World::new("unread").await;
    let mut dispatcher = world.dispatcher_in(&[UNREAD], &["log.level=trace"]).await;
    let mut producer = world.producer().await;
    for round in 0..3 {
        all_are_answered(&mut producer, &format!("unread-{round}")).await;
    }
    let again = || Request::template("script", &json!({"script": "sleep 1; echo unread-0 0"}));
    for _ in 0..10 {
        let owed: HashSet<_> = producer.send_many((0..200).map(|_| again())).await.into_iter().collect();
        let events = all_answers(&mut producer, &owed).await;
        assert!(events.iter().all(|event| event.served_by() == "cache"));
    }
    let log = dispatcher.unread_log();
    let lacks = tokio::task::spawn_blocking(|| {
        let lines = std::io::BufRead::lines(std::io::BufReader::new(log));
        lines.map_while(Result::ok).any(|line| line.contains("lines were dropped"))
    });
    assert!(tokio::time::timeout(PATIENCE, lacks).await.expect("the log goes on").expect("it is read"));
}

/// Every line that is written fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_a_full_disk_holds_nothing_up() {
    let world = World::new("disk-full").await;
    let mut dispatcher = world.dispatcher_in(&[FULL_DISK], &[]).await;
    let mut producer = world.producer().await;
    all_are_answered(&mut producer, "full").await;
    world.settled().await;
    assert!(!dispatcher.has_ended());
}

/// It stands still for nine tenths of the time.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_tenth_of_a_processor_nothing_is_lost() {
    let world = World::new("starved").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    tokio::select! {
        () = starve(|signal| dispatcher.signal(signal)) => unreachable!("it goes on"),
        () = all_are_answered(&mut producer, "starved") => {}
    }
    dispatcher.signal("-CONT");
    world.settled().await;
}

/// New connections fail; those that are there go on.
#[tokio::test(flavor = "multi_thread")]
async fn without_file_descriptors_nothing_is_lost_and_with_them_it_goes_on() {
    let world = World::new("descriptors").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    dispatcher.limit_descriptors(1);
    eventually("a connection that was closed cannot be opened again", async || {
        // The broker knows late which there are to close.
        world.broker.close_connections();
        let fails = |line: &str| line.contains("session ended") && line.contains("Too many open files");
        dispatcher.log().lines().any(fails).then_some(())
    })
    .await;
    let mut producer_again = Producer::connect(&world.broker.url()).await;
    let id = producer_again.send(Request::template("script", &json!({"script": "echo kept"}))).await;
    assert!(producer_again.event_within(Duration::from_secs(5)).await.is_none(), "it has nothing to answer with");
    dispatcher.limit_descriptors(1024);
    let event = producer_again.event().await;
    assert_eq!((event.request_id(), event.state()), (id.as_str(), "succeeded"));
    producer = producer.reconnect(&world.broker.url()).await;
    all_are_answered(&mut producer, "after").await;
}

/// By the kernel, in the middle of the work.
#[tokio::test(flavor = "multi_thread")]
async fn killed_for_its_memory_it_loses_nothing() {
    let world = World::new("out-of-memory").await;
    let recorder = world.recorder();
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let mut owed = HashSet::new();
    let request = |number: usize, padding: usize| {
        let script = format!("sleep 2; echo {}", number % 6);
        Request::template("script", &json!({"script": script, "tag": "x".repeat(padding)}))
    };
    for number in 0..6 {
        owed.insert(producer.send(request(number, 0)).await);
    }
    world.the_first_job().await;
    // What it has already does not count.
    let limit = MemoryLimit::start(&world.name, 1 << 20);
    limit.take(&dispatcher.pid());
    for number in 0..60 {
        owed.insert(producer.send(request(number, 200_000)).await);
    }
    let status = dispatcher.ended().await;
    assert_eq!((status.signal(), limit.kills()), (Some(9), 1), "the kernel has killed it");
    let _next = world.dispatcher().await;
    let events = all_answers(&mut producer, &owed).await;
    println!("{} answers to {}", events.len(), owed.len());
    assert_agreement(&events);
    assert!(events.iter().all(|event| event.state() == "succeeded"));
    assert_eq!(recorder.jobs(), 12, "each key has run once");
    recorder.assert_sound();
    world.settled().await;
}
