//! What happens to the process itself: a wrong clock, a log that nobody reads or that cannot be written, no file
//! descriptors left, no memory, hardly any processor.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use serde_json::json;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::api_proxy::ApiProxy;
use crate::support::dispatcher::{FULL_DISK, UNREAD, starve};
use crate::support::memory::MemoryLimit;
use crate::support::{PATIENCE, Producer, Request, World};

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

/// libfaketime, which Debian has in the package `faketime`.
fn faketime() -> String {
    let found = std::fs::read_dir("/usr/lib").expect("/usr/lib").filter_map(|entry| {
        let library = entry.ok()?.path().join("faketime/libfaketimeMT.so.1");
        library.exists().then(|| library.display().to_string())
    });
    found.last().expect("the package faketime, which deploy/local/test installs")
}

/// By a clock that is an hour ahead every Job would have taken too long before it began. (Without TLS, for by one that
/// is behind the API server's certificate is not valid yet.)
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_an_hour_off_gives_no_job_up_and_forgets_none() {
    for offset in ["+1h", "-1h"] {
        let world = World::new("clock").await;
        let library = faketime();
        let proxy = ApiProxy::start(&world).await;
        let [kubeconfig] = proxy.environment();
        let faked = [("LD_PRELOAD", library.as_str()), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        let environment = [kubeconfig, faked[0], faked[1], faked[2]];
        let _dispatcher = world.dispatcher_in(&environment, &[]).await;
        let mut producer = world.producer().await;
        all_are_answered(&mut producer, "off").await;
        // One whose image is not there is given up by its limit, neither at once nor never.
        let begun = std::time::Instant::now();
        let event = producer.ask(Request::template("starts", &json!({"image": "127.0.0.1:1/no/such:1"}))).await;
        assert_eq!((event.state(), event.error("code")), ("failed", &json!("start.image")), "{offset}");
        let took = begun.elapsed().as_secs();
        assert!((7..=20).contains(&took), "{offset}: {took} s");
        world.settled().await;
    }
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
    let limit = |count: &str| {
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &dispatcher.pid(), &format!("--nofile={count}")]);
        assert!(prlimit.status().expect("prlimit can be run").success());
    };
    limit("1:");
    world.broker.close_connections();
    let mut producer_again = Producer::connect(&world.broker.url()).await;
    let id = producer_again.send(Request::template("script", &json!({"script": "echo kept"}))).await;
    world.pause(std::time::Duration::from_secs(5)).await;
    limit("4096:");
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
