//! What a request may say about the cache, and what may stand in the cache.

use std::time::Duration;

use jiff::Timestamp;
use jobquay::cache::{Entry, Seal, encode, result_key};
use jobquay::domain::event::JobInfo;
use jobquay::domain::key::RequestKey;
use jobquay::domain::outcome::Payload;
use serde_json::{Value, json};

use crate::support::stack::STACK;
#[cfg(feature = "crash-points")]
use crate::support::{Producer, broker::Broker};
use crate::support::{Request, World, eventually};

/// A job that says something else each time.
fn request(cache: &Value) -> Request {
    Request::json(
        &json!({"template": "script", "params": {"script": "cat /proc/sys/kernel/random/uuid"}, "cache": cache}),
    )
}

pub(crate) async fn redis() -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(STACK.value("REDIS_URL")).expect("a URL");
    // Half a second, the client's own, is too short for all keys on a busy machine.
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(std::time::Duration::from_secs(30)));
    client.get_multiplexed_async_connection_with_config(&patient).await.expect("Redis")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mode_does_what_it_says() {
    let world = World::new("modes").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let first = producer.ask(request(&json!({}))).await;
    let mut ask = async |cache: Value| {
        let event = producer.ask(request(&cache)).await;
        (event.served_by().to_owned(), event.result("text").clone())
    };
    let text = first.result("text").clone();
    assert_eq!(ask(json!({"mode": "use"})).await, ("cache".into(), text.clone()));
    assert_eq!(ask(json!({"mode": "only"})).await, ("cache".into(), text.clone()));
    let (served_by, bypassed) = ask(json!({"mode": "bypass", "no_store": true})).await;
    assert!(served_by == "executed" && bypassed != text, "it ran alone");
    assert_eq!(ask(json!({})).await.1, text, "and kept nothing");
    let (served_by, refreshed) = ask(json!({"mode": "refresh"})).await;
    assert!(served_by == "executed" && refreshed != text);
    assert_eq!(ask(json!({})).await, ("cache".into(), refreshed.clone()), "the new result replaced the old");
    // Until it is let go its Job can be joined, which is no run of one's own.
    world.settled().await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (served_by, younger) = ask(json!({"max_age": "1s"})).await;
    assert!(served_by == "executed" && younger != refreshed, "too old was a miss");
    assert_eq!(ask(json!({})).await, ("cache".into(), younger.clone()));
    let (_, bypassed) = ask(json!({"mode": "bypass"})).await;
    assert_eq!(ask(json!({})).await, ("cache".into(), bypassed.clone()));
    let (served_by, salted) = ask(json!({"salt": "2026-11"})).await;
    assert!(served_by == "executed" && salted != bypassed, "another salt is another key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_ends_a_result() {
    let world = World::new("ttl").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let first = producer.ask(request(&json!({"ttl": "2s"}))).await;
    assert_eq!(producer.ask(request(&json!({}))).await.served_by(), "cache");
    world.settled().await;
    tokio::time::sleep(Duration::from_millis(2200)).await;
    let later = producer.ask(request(&json!({}))).await;
    assert_eq!(later.served_by(), "executed");
    assert_ne!(first.result("text"), later.result("text"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_does_not_verify_is_a_miss_and_a_metric() {
    let world = World::new("poisoned").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let first = producer.ask(request(&json!({}))).await;
    // Until it is let go its Job can be joined, which is no lookup.
    world.settled().await;
    let key = RequestKey::from_hex(first.data()["key"].as_str().expect("a key")).expect("a key");
    let mut redis = redis().await;
    let () =
        redis::cmd("SET").arg(result_key(&key)).arg("jobquay1\n{}\npoison").query_async(&mut redis).await.expect("SET");
    let second = producer.ask(request(&json!({}))).await;
    assert_eq!(second.served_by(), "executed");
    assert!(dispatcher.metric("jobquay_cache_invalid_total", "header") >= 1.0);
    let third = producer.ask(request(&json!({}))).await;
    assert_eq!(
        (third.served_by(), third.result("text")),
        ("cache", second.result("text")),
        "it was replaced by a true one"
    );
}

/// Two runs of one key can overlap only through somebody's hand. Those who wait on a Job are told what it made, each
/// time that it is completed.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_value_of_a_key_stays_and_a_job_tells_its_own() {
    let world = World::new("first-value").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let id = producer.send(Request::template("script", &json!({"script": "sleep 3; echo mine"}))).await;
    let job = world.the_job().await;
    let key = jobquay::domain::job::key(&job).expect("a key");
    let earlier = Entry {
        key,
        template: None,
        job: JobInfo { namespace: world.name.clone(), name: "jq-earlier".into(), uid: "u-earlier".into(), attempts: 1 },
        created_at: Timestamp::now(),
        expires_at: Timestamp::now() + Duration::from_secs(600),
        payload: Payload::new(b"earlier\n".to_vec()),
    };
    let mut redis = redis().await;
    let () = redis::cmd("SET")
        .arg(result_key(&key))
        .arg(encode(&earlier, &Seal::default()))
        .query_async(&mut redis)
        .await
        .expect("SET");
    let event = producer.event().await;
    assert_eq!((event.request_id(), event.result("text")), (id.as_str(), &json!("mine\n")));
    assert_eq!(event.data()["job"]["uid"].as_str(), job.metadata.uid.as_deref());
    let later = producer.ask(Request::template("script", &json!({"script": "sleep 3; echo mine"}))).await;
    assert_eq!((later.served_by(), later.result("text")), ("cache", &json!("earlier\n")));
}

/// Its Job has ended when nobody could see to that.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_as_old_as_the_end_of_its_job() {
    let world = World::new("age").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    producer.send(request(&json!({}))).await;
    let name = world.the_job().await.metadata.name.unwrap_or_default();
    dispatcher.kill();
    eventually("the Job has ended", async || {
        jobquay::domain::job::ending(&world.jobs().get(&name).await.expect("the Job"))
    })
    .await;
    world.pause(Duration::from_secs(12)).await;
    let _next = world.dispatcher().await;
    let first = producer.event().await;
    world.settled().await;
    let kept = producer.ask(request(&json!({}))).await;
    assert_eq!((kept.served_by(), kept.result("text")), ("cache", first.result("text")));
    assert!(kept.result("age_seconds").as_u64() >= Some(12), "{}", kept.data());
    let fresh = producer.ask(request(&json!({"max_age": "10s"}))).await;
    assert_eq!((fresh.state(), fresh.served_by()), ("succeeded", "executed"));
    assert_ne!(fresh.result("text"), first.result("text"));
}

/// It has read what its run made, and is frozen before it keeps that; another completes the Job, and a newer one. It has
/// a virtual host of its own, or the broker would hand it the request for the newer one.
#[cfg(feature = "crash-points")]
#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_not_replaced_by_that_of_an_older_run_which_a_frozen_one_wakes_with() {
    let world = World::new("wakes-late").await;
    let elsewhere = Broker::create(&format!("{}-elsewhere", world.name));
    let url = elsewhere.url();
    let environment = [("JOBQUAY__AMQP__URL", url.as_str()), ("JOBQUAY_CRASH", "result-captured:1:STOP")];
    let frozen = world.dispatcher_in(&environment, &[]).await;
    let refresh = || request(&json!({"mode": "refresh"}));
    Producer::connect(&url).await.send(Request { no_reply: true, ..refresh() }).await;
    eventually("it stands still", async || frozen.is_stopped().then_some(())).await;
    let _other = world.dispatcher().await;
    world.settled().await;
    let mut producer = world.producer().await;
    let newer = producer.ask(refresh()).await;
    assert_eq!((newer.state(), newer.served_by()), ("succeeded", "executed"));
    world.settled().await;
    frozen.signal("-CONT");
    frozen.ready().await;
    // Time enough to do it wrong.
    world.pause(Duration::from_secs(3)).await;
    let kept = producer.ask(request(&json!({}))).await;
    let kept_is_newer = (kept.served_by(), kept.result("text")) == ("cache", newer.result("text"));
    assert!(kept_is_newer, "{} is kept, {} is newer; the frozen one: {}", kept.data(), newer.data(), frozen.log());
}
