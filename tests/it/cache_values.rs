//! What stands in Redis under a real key: values that are no results, signed ones, ended ones, and what
//! workers have put there themselves.

use std::time::Duration;

use jiff::Timestamp;
use jobquay::cache::{Entry, Seal, encode, result_key};
use jobquay::config::SecretText;
use jobquay::domain::event::JobInfo;
use jobquay::domain::job::upload_key;
use jobquay::domain::key::RequestKey;
use jobquay::domain::outcome::{Payload, digest};
use redis::AsyncCommands as _;
use serde_json::{Value, json};

use crate::cache_control::redis;
use crate::support::stack::STACK;
use crate::support::{Event, Producer, Request, World, eventually};

const OLD: &str = "the-old-key-for-signatures-of-tests";
const NEXT: &str = "the-next-key-for-signatures-of-tests";

/// A name, why the value is none (the words of the log, and the metric's label), and how a true one is spoilt.
type Spoilt = (&'static str, &'static str, &'static str, fn(&RequestKey, Vec<u8>) -> Vec<u8>);

const UNSIGNED: [Spoilt; 7] = [
    ("poisoned", "not those that were written", "bytes", |_, mut value| {
        *value.last_mut().expect("a value has bytes") ^= 1;
        value
    }),
    ("truncated", "not those that were written", "bytes", |_, value| value[..value.len() - 1].to_vec()),
    ("foreign", "belongs to another key", "key", |_, _| forged(&other_key(), 8, "")),
    ("of a future version", "has another version", "version", |_, value| {
        [b"jobquay2", &value["jobquay2".len()..]].concat()
    }),
    ("with an unreadable header", "header cannot be read", "header", |_, value| {
        String::from_utf8_lossy(&value).replacen('{', "[", 1).into_bytes()
    }),
    ("empty but for a space", "has another version", "version", |_, _| b" ".to_vec()),
    ("oversized", "larger than `cache.max_value`", "size", |key, _| forged(key, 8192, "")),
];

const SIGNED: [Spoilt; 4] = [
    ("unsigned", "no signature that verifies", "signature", |key, _| forged(key, 8, "")),
    ("signed by a stranger", "no signature that verifies", "signature", |key, _| {
        forged(key, 8, "a-strangers-key-for-signatures-of-his")
    }),
    ("poisoned under its signature", "no signature that verifies", "signature", |_, mut value| {
        *value.last_mut().expect("a value has bytes") ^= 1;
        value
    }),
    ("signed for another key", "belongs to another key", "key", |_, _| forged(&other_key(), 8, OLD)),
];

fn other_key() -> RequestKey {
    RequestKey::from_hex(&"cd".repeat(32)).expect("64 digits")
}

fn seal(key: &str) -> Seal {
    let secret = |text: &str| serde_json::from_value::<SecretText>(text.into()).expect("a text");
    Seal::new(&secret(key), &secret(""))
}

/// A whole value that no Job has made.
pub(crate) fn forged(key: &RequestKey, bytes: usize, hmac_key: &str) -> Vec<u8> {
    forged_at(key, Timestamp::now(), bytes, hmac_key)
}

/// As [`forged`], kept at this time.
pub(crate) fn forged_at(key: &RequestKey, created_at: Timestamp, bytes: usize, hmac_key: &str) -> Vec<u8> {
    let entry = Entry {
        key: *key,
        template: None,
        job: JobInfo { namespace: "work".into(), name: "jq-forged".into(), uid: "u-forged".into(), attempts: 1 },
        created_at,
        expires_at: Timestamp::now() + Duration::from_secs(600),
        payload: Payload::new(vec![b'f'; bytes]),
    };
    encode(&entry, &seal(hmac_key))
}

pub(crate) fn key_of(event: &Event) -> RequestKey {
    RequestKey::from_hex(event.data()["key"].as_str().expect("a key")).expect("a key")
}

/// A job that says something else each time, under a key of its own for each tag.
pub(crate) fn random(tag: &str) -> Request {
    Request::template("script", &json!({"script": "cat /proc/sys/kernel/random/uuid", "tag": tag})).id(tag)
}

/// Asks all at once; the answers in the order of the names.
async fn ask_all(producer: &mut Producer, spoilt: &[Spoilt]) -> Vec<Event> {
    producer.send_many(spoilt.iter().map(|(name, ..)| random(name))).await;
    let events = producer.events(spoilt.len()).await;
    let named = |name| events.iter().find(|event| event.request_id() == name).expect("one answer each").clone();
    spoilt.iter().map(|(name, ..)| named(*name)).collect()
}

async fn check_spoilt(world: &str, settings: &[&str], spoilt: &[Spoilt]) {
    let world = World::new(world).await;
    let recorder = world.recorder();
    let dispatcher = world.dispatcher_with(settings).await;
    let mut producer = world.producer().await;
    let first = ask_all(&mut producer, spoilt).await;
    // Until it is let go its Job can be joined, which is no lookup.
    world.settled().await;
    assert_eq!(dispatcher.metric("jobquay_cache_invalid_total", ""), 0.0);
    let mut redis = redis().await;
    for (event, (_, _, _, spoil)) in first.iter().zip(spoilt) {
        let key = key_of(event);
        let value: Vec<u8> = redis.get(result_key(&key)).await.expect("GET");
        let () = redis.set(result_key(&key), spoil(&key, value)).await.expect("SET");
    }
    let second = ask_all(&mut producer, spoilt).await;
    world.settled().await;
    let third = ask_all(&mut producer, spoilt).await;
    let log = dispatcher.log();
    for (index, (name, why, reason, _)) in spoilt.iter().enumerate() {
        let text = |event: &Event| event.result("text").as_str().map(str::to_owned);
        let (first, second, third) = (&first[index], &second[index], &third[index]);
        assert_eq!((second.state(), second.served_by()), ("succeeded", "executed"), "{name}");
        assert!(text(second).is_some_and(|text| text.len() == 37) && text(second) != text(first), "{name}");
        assert_eq!((third.served_by(), text(third)), ("cache", text(second)), "{name}: a true one was kept");
        let key = key_of(first).to_string();
        let mut lines = log.lines().filter(|line| line.contains("does not verify") && line.contains(&key));
        assert!(lines.next().is_some_and(|line| line.contains(why)), "{name}: the log does not say {why:?}");
        let alike = spoilt.iter().filter(|(_, _, other, _)| other == reason).count();
        let counted = dispatcher.metric("jobquay_cache_invalid_total", &format!("reason=\"{reason}\""));
        assert!(counted >= alike as f64, "{name}: {counted} of {reason}");
    }
    assert_eq!(recorder.jobs(), 2 * spoilt.len());
    recorder.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_stands_under_a_key_and_is_no_result_is_a_miss() {
    check_spoilt("spoilt", &["cache.max_value=4KiB"], &UNSIGNED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_only_what_it_has_signed_is_a_result() {
    check_spoilt("unsigned", &[&format!("cache.hmac_key={OLD}")], &SIGNED).await;
}

/// By a cancellation that nobody has sent.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_only_what_it_has_signed_is_remembered_of_a_request() {
    for (name, settings, state) in
        [("record", vec![], "cancelled"), ("record-signed", vec![format!("cache.hmac_key={OLD}")], "succeeded")]
    {
        let world = World::new(name).await;
        let settings: Vec<_> = settings.iter().map(String::as_str).collect();
        let _dispatcher = world.dispatcher_with(&settings).await;
        let mut producer = world.producer().await;
        let id = format!("{}-forged", world.name);
        let key = format!("jobquay:cancelled:{}", digest(format!("0/{id}").as_bytes()));
        let () = redis().await.set_ex(key, "by whoever can write here", 60).await.expect("SET");
        assert_eq!(producer.ask(random(name).id(&id)).await.state(), state, "{name}");
        world.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_of_the_previous_key_counts_where_it_is_configured_and_only_there() {
    let world = World::new("rotation").await;
    let mut producer = world.producer().await;
    let (old, next, previous) =
        (format!("cache.hmac_key={OLD}"), format!("cache.hmac_key={NEXT}"), format!("cache.hmac_previous={OLD}"));
    let mut before = None;
    for (settings, served_by) in [
        (&[old.as_str()][..], "executed"),
        (&[old.as_str()], "cache"),
        (&[next.as_str(), &previous], "cache"),
        (&[next.as_str()], "executed"),
        (&[next.as_str(), &previous], "cache"),
        (&[old.as_str()], "executed"),
    ] {
        let mut dispatcher = world.dispatcher_with(settings).await;
        let event = producer.ask(random("rotated")).await;
        assert_eq!(event.served_by(), served_by, "{settings:?}");
        let text = event.result("text").clone();
        assert_eq!(before.as_ref() == Some(&text), served_by == "cache", "{settings:?}");
        before = Some(text);
        world.settled().await;
        // Or it would take the next one's request.
        dispatcher.kill();
    }
}

fn stale(id: &str, script: &str, cache: &Value) -> Request {
    Request::json(&json!({"template": "stale", "params": {"name": "one", "script": script}, "cache": cache})).id(id)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_result_answers_those_who_prefer_it_to_a_failure() {
    let world = World::new("stale").await;
    let recorder = world.recorder();
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let first = producer.ask(stale("first", "echo good", &json!({"ttl": "2s"}))).await;
    let made = std::time::Instant::now();
    world.settled().await;
    tokio::time::sleep(Duration::from_secs(4).saturating_sub(made.elapsed())).await;

    let fails = "sleep 4; exit 3";
    producer.send(stale("takes", fails, &json!({"stale_if_error": "1h"}))).await;
    eventually("its Job", async || (recorder.jobs() == 2).then_some(())).await;
    producer.send(stale("does-not", fails, &json!({}))).await;
    producer.send(stale("takes-less", fails, &json!({"stale_if_error": "1s"}))).await;
    let events = producer.events(3).await;
    let named = |name| events.iter().find(|event| event.request_id() == name).expect("one answer each");

    let taken = named("takes");
    assert_eq!((taken.state(), taken.served_by()), ("succeeded", "cache"));
    assert_eq!(taken.result("text"), &json!("good\n"));
    assert_eq!(taken.result("expires_at"), first.result("expires_at"), "it says that it has ended");
    assert_eq!(taken.data()["job"]["uid"], first.data()["job"]["uid"], "and whose it is");
    let age = taken.result("age_seconds").as_u64().expect("an age");
    assert!((6..=made.elapsed().as_secs() + 1).contains(&age), "{age} s");
    for name in ["does-not", "takes-less"] {
        let event = named(name);
        assert_eq!((event.state(), event.served_by()), ("failed", "coalesced"), "{name}");
        assert_eq!((event.error("code"), event.error("exit_code")), (&json!("job.failed"), &json!(3)), "{name}");
    }
    world.settled().await;
    let run = producer.ask(stale("works", "echo better", &json!({"stale_if_error": "1h"}))).await;
    assert_eq!((run.served_by(), run.result("text")), ("executed", &json!("better\n")), "a success is a success");
    recorder.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_has_ended_is_kept_where_the_dispatcher_is_told_so() {
    let world = World::new("no-stale").await;
    let _dispatcher = world.dispatcher_with(&["results.stale=0s"]).await;
    let mut producer = world.producer().await;
    let first = producer.ask(stale("first", "echo good", &json!({"ttl": "1s"}))).await;
    world.settled().await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let exists: bool = redis().await.exists(result_key(&key_of(&first))).await.expect("EXISTS");
    assert!(!exists);
    let fails = producer.ask(stale("fails", "exit 3", &json!({"stale_if_error": "1h"}))).await;
    assert_eq!((fails.state(), fails.served_by()), ("failed", "executed"));
}

/// Sends commands to Redis from a pod; the template runs on the node's network, where it listens.
pub(crate) fn redis_script(commands: &str) -> String {
    let url = url::Url::parse(STACK.value("REDIS_URL")).expect("a URL");
    let (host, port) = (url.host_str().expect("a host"), url.port().expect("a port"));
    format!("printf '{commands}QUIT\\r\\n' | nc {host} {port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_puts_its_result_into_redis_itself() {
    let world = World::new("upload").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let set = redis_script(r#"SET "'"$JOBQUAY_RESULT_KEY"'" "{\\"made\\":\\"here\\"}"\r\n"#);
    let large = redis_script(r#"SETRANGE "'"$JOBQUAY_RESULT_KEY"'" 65536 x\r\n"#);
    let fits = redis_script(r#"SETRANGE "'"$JOBQUAY_RESULT_KEY"'" 65535 x\r\n"#);
    for (name, script, expected) in [
        ("arrives", set.clone(), Ok(json!(15))),
        ("just fits", fits, Ok(json!(65_536))),
        ("too large", large, Err("result.too_large")),
        ("missing", "echo \"$JOBQUAY_RESULT_KEY\"".to_owned(), Err("result.lost")),
        ("fails after it was put there", format!("{set}; exit 3"), Err("job.failed")),
    ] {
        let event = producer.ask(Request::template("upload", &json!({"script": script}))).await;
        match expected {
            Ok(bytes) => assert_eq!((event.state(), event.result("bytes")), ("succeeded", &bytes), "{name}"),
            Err(code) => assert_eq!((event.state(), event.error("code")), ("failed", &json!(code)), "{name}"),
        }
        let job_name = event.data()["job"]["name"].as_str().expect("a Job").to_owned();
        let job = world.jobs().get(&job_name).await.expect("it stays for its ttl");
        let key = upload_key(&job).expect("the Job names its key");
        let mut redis = redis().await;
        eventually(&format!("{name}: the upload is gone"), async || {
            let exists: bool = redis.exists(&key).await.expect("EXISTS");
            (!exists).then_some(())
        })
        .await;
    }
    let cached = producer.ask(Request::template("upload", &json!({"script": set}))).await;
    assert_eq!((cached.served_by(), cached.result("json")), ("cache", &json!({"made": "here"})));
}
