//! What an operator sees and does: probes, metrics, logs, signals.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::crashes::all_answers;
use crate::support::{Request, World, eventually};

fn script(text: &str) -> Request {
    Request::template("script", &json!({"script": text}))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probes_and_the_version_answer() {
    let world = World::new("probes").await;
    let dispatcher = world.dispatcher().await;
    assert_eq!(dispatcher.get("/livez"), Some((200, "ok\n".into())));
    let (status, text) = dispatcher.get("/readyz?verbose").expect("an answer");
    assert_eq!(status, 200);
    for line in ["[+]consumer registered", "[+]publisher open", "[+]watch alive", "[+]redis up", "ready"] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    let (_, version) = dispatcher.get("/version").expect("an answer");
    assert!(version.contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(
        dispatcher.get("/api/v1/results/x").expect("an answer").0,
        404,
        "results are served only under a public URL"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_tell_the_story_of_a_request() {
    let world = World::new("metrics").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    producer.ask(script("echo x")).await;
    producer.ask(script("echo x")).await;
    producer.ask(Request { body: b"{".to_vec(), ..Request::default() }).await;
    world.settled().await;
    for (name, labels, expected) in [
        ("jobquay_requests_received_total", "", 3.0),
        ("jobquay_requests_finished_total", "served_by=\"executed\"", 1.0),
        ("jobquay_requests_finished_total", "served_by=\"cache\"", 1.0),
        ("jobquay_requests_finished_total", "outcome=\"rejected\"", 1.0),
        ("jobquay_cache_lookups_total", "result=\"miss\"", 1.0),
        ("jobquay_cache_lookups_total", "result=\"hit\"", 1.0),
        ("jobquay_cache_stores_total", "result=\"stored\"", 1.0),
        ("jobquay_jobs_created_total", "", 1.0),
        ("jobquay_events_published_total", "result=\"delivered\"", 3.0),
        ("jobquay_build_info", "version", 1.0),
    ] {
        assert_eq!(dispatcher.metric(name, labels), expected, "{name}{{{labels}}}");
    }
    eventually("no Job is open", async || (dispatcher.metric("jobquay_jobs_open", "") == 0.0).then_some(())).await;
    assert!(dispatcher.metric("jobquay_seconds_since_watch_event", "") < 60.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_tells_what_happened_and_never_bodies_or_secrets() {
    let world = World::new("log").await;
    let secret_url = world.broker.url();
    let dispatcher = world.dispatcher_with(&[&format!("amqp.url={secret_url}")]).await;
    let mut producer = world.producer().await;
    let event = producer.ask(Request { correlation_id: Some("c".into()), ..script("echo hush-hush") }).await;
    let _ = producer.ask(Request { body: b"{\"template\": \"hush-hush".to_vec(), ..Request::default() }).await;
    // The answer may be there before its line is.
    dispatcher.says("\"answered\"").await;
    let log = dispatcher.log();
    assert!(!log.contains("hush-hush"), "a body");
    assert!(!log.contains("guest:guest"), "a password");
    let line = log.lines().find(|line| line.contains("\"answered\"")).expect("a line for the answer");
    let line: serde_json::Value = serde_json::from_str(line).expect("structured");
    assert_eq!(line["request.id"], event.request_id());
    assert_eq!(line["request.key"], event.data()["key"]);
    assert_eq!(line["job.name"], event.data()["job"]["name"]);
    assert!(
        log.contains("\"configuration\":\"kubeconfig\"") && log.contains(&format!("\"namespace\":\"{}\"", world.name))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_what_is_held_and_hands_back_the_rest() {
    let world = World::new("sigterm").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let mut owed = HashSet::new();
    let mut asked = None;
    for number in 0..600 {
        owed.insert(producer.send(script(&format!("echo {}", number % 10))).await);
        if number == 300 {
            // In the middle of a stream of deliveries, so that some are in hand and some not yet begun.
            dispatcher.signal("-TERM");
            asked = Some(Instant::now());
        }
    }
    let status = dispatcher.ended().await;
    assert!(status.success(), "{status}");
    assert!(asked.is_some_and(|asked| asked.elapsed() < Duration::from_secs(25)));
    assert!(dispatcher.log().contains("\"stopped\""), "it came to its end before the grace was over");
    let _next = world.dispatcher().await;
    let events = all_answers(&mut producer, &owed).await;
    assert_eq!(events.len(), 600, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let world = World::alone("second-signal").await;
    let mut dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    // With the API server hung a request stays in hand, and the first signal waits for it.
    crate::support::stack::STACK.signal("apiserver", "-STOP");
    producer.send(script("echo held")).await;
    dispatcher.pause(Duration::from_secs(1)).await;
    dispatcher.signal("-TERM");
    dispatcher.says("stopping").await;
    let alive = !dispatcher.has_ended();
    dispatcher.signal("-TERM");
    let begun = Instant::now();
    let status = dispatcher.ended().await;
    crate::support::stack::STACK.signal("apiserver", "-CONT");
    assert!(alive, "the first signal waits");
    assert!(begun.elapsed() < Duration::from_secs(10) && status.code() == Some(1), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_ends_the_start_with_its_name() {
    let world = World::new("port-taken").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    let mut command = crate::support::dispatcher::jobquay(&world);
    let output =
        command.args(["serve", "--set", &format!("http.listen={address}")]).output().expect("jobquay can be run");
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&format!("cannot listen on {address} (`http.listen`)")), "{text}");
}
