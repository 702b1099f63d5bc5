//! Requests that come together, and are looked for in the cache together.

use jobquay::cache::result_key;
use jobquay::domain::key::RequestKey;
use redis::AsyncCommands as _;
use serde_json::json;

use crate::cache_control::redis;
use crate::cache_values::{forged, key_of, random};
use crate::support::{Event, Request, World};

/// More than are read in one call.
const SMALL: usize = 20;

fn of(events: &[Event], id: &str) -> Event {
    events.iter().find(|event| event.request_id() == id).expect("an answer").clone()
}

/// Most of them small, one too large to be read along with others, one no result, one gone; and each twice.
#[tokio::test(flavor = "multi_thread")]
async fn each_of_those_that_come_together_gets_its_own_answer() {
    let world = World::new("together").await;
    let recorder = world.recorder();
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let small = (0..SMALL).map(|number| format!("small-{number}"));
    let names: Vec<String> = small.chain(["large", "list", "gone"].map(str::to_owned)).collect();
    producer.send_many(names.iter().map(|name| random(name))).await;
    let first = producer.events(names.len()).await;
    world.settled().await;
    dispatcher.kill();

    let key = |name: &str| -> RequestKey { key_of(&of(&first, name)) };
    let mut redis = redis().await;
    let () = redis.set(result_key(&key("large")), forged(&key("large"), 50_000, "")).await.expect("SET");
    let () = redis.del(&[result_key(&key("list")), result_key(&key("gone"))]).await.expect("DEL");
    let () = redis.rpush(result_key(&key("list")), "x").await.expect("RPUSH");
    let again = |name: &str, id: &str| Request { id: Some(format!("{name}/{id}")), ..random(name) };
    producer.send_many(names.iter().flat_map(|name| [again(name, "1"), again(name, "2")])).await;
    let dispatcher = world.dispatcher().await;
    let second = producer.events(2 * names.len()).await;

    for name in &names {
        let answers = ["1", "2"].map(|number| of(&second, &format!("{name}/{number}")));
        let ran = ["list", "gone"].contains(&name.as_str());
        let told = answers.each_ref().map(|answer| answer.result("sha256"));
        assert_eq!(told[0], told[1], "{name}");
        assert_eq!(told[0] == of(&first, name).result("sha256"), name.starts_with("small"), "{name}");
        assert!(answers.iter().all(|answer| (answer.served_by() == "cache") != ran), "{name}: {answers:#?}");
    }
    assert_eq!(of(&second, "large/1").result("bytes"), &json!(50_000));
    assert_eq!(recorder.jobs(), names.len() + 2);
    // Once where it is looked up, and once where the new result is kept.
    assert!(dispatcher.metric("jobquay_cache_invalid_total", "reason=\"version\"") >= 2.0);
}
