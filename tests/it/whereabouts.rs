//! Where a request is, as the HTTP API says it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Dispatcher, Request, World, eventually};

fn script(text: &str) -> Request {
    Request::template("script", &json!({"script": text}))
}

pub(crate) fn get(dispatcher: &Dispatcher, path: &str) -> (u16, Value) {
    let (status, text) = dispatcher.get(path).expect("an answer");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// What is said of a request once that says so.
pub(crate) async fn once(dispatcher: &Dispatcher, id: &str, field: &str, expected: &Value) -> Value {
    eventually(&format!("{field} is {expected}"), async || {
        let (_, status) = get(dispatcher, &format!("/api/v1/requests/{id}"));
        (status.pointer(field) == Some(expected)).then_some(status)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_followed_from_its_job_to_its_answer() {
    let world = World::new("where").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let id = producer.send(script("sleep 5; echo done")).await;
    let running = once(&dispatcher, &id, "/state", &json!("started")).await;
    assert_eq!((&running["terminal"], &running["template"]), (&json!(false), &json!("script")));
    assert!(running["pod"].as_str().is_some_and(|pod| pod.starts_with("jq-script-")), "{running}");
    let joining = producer.send(script("sleep 5; echo done")).await;
    let joined = once(&dispatcher, &joining, "/joined", &json!(id)).await;
    assert_eq!(joined["key"], running["key"]);
    producer.events(2).await;
    let ended = once(&dispatcher, &id, "/state", &json!("succeeded")).await;
    assert_eq!((&ended["served_by"], &ended["result"]["text"]), (&json!("executed"), &json!("done\n")));
    let moments: Vec<_> = ended["timeline"].as_array().expect("a timeline").iter().map(|at| &at["what"]).collect();
    assert_eq!(moments, ["received", "placed", "running", "succeeded"]);
    assert_eq!(ended["request"]["params"]["script"], "sleep 5; echo done");
    assert_eq!(ended["events"][0]["data"]["request_id"], json!(id));
    let hit = producer.ask(script("sleep 5; echo done")).await;
    once(&dispatcher, hit.request_id(), "/served_by", &json!("cache")).await;
    let (status, unknown) = get(&dispatcher, "/api/v1/requests/nobody");
    assert_eq!((status, &unknown["title"]), (404, &json!("Not Found")));
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_waits_for_is_said() {
    let world = World::new("waits").await;
    let dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    let mut ids = Vec::new();
    for number in 0..3 {
        let params = json!({"script": format!("sleep 4; echo {number}")});
        ids.push(producer.send(Request::template("narrow", &params)).await);
        world.pause(Duration::from_millis(300)).await;
    }
    let waiting = once(&dispatcher, &ids[2], "/waiting/for", &json!("slot")).await;
    assert!(waiting["waiting"]["message"].as_str().is_some_and(|text| text.starts_with("waiting for a slot in lane")));
    let image = producer.send(Request::template("starts", &json!({"image": "127.0.0.1:1/no/such:1"}))).await;
    let pulling = once(&dispatcher, &image, "/waiting/for", &json!("image")).await;
    assert_eq!(pulling["state"], "accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_listed_by_what_is_said_of_them_page_by_page() {
    let world = World::new("listed").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let event = producer.ask(script(&format!("echo {number}; exit {}", number / 4))).await;
        ids.push(event.request_id().to_owned());
    }
    once(&dispatcher, &ids[4], "/state", &json!("failed")).await;
    let listed = |path: &str| -> (Vec<String>, Value) {
        let (status, page) = get(&dispatcher, path);
        assert_eq!(status, 200, "{page}");
        let all = page["requests"].as_array().expect("requests").iter();
        let own = all.filter_map(|one| one["request_id"].as_str()).filter(|id| ids.iter().any(|own| own == id));
        (own.map(str::to_owned).collect(), page["next"].clone())
    };
    let (failed, _) = listed("/api/v1/requests?state=failed&limit=500");
    assert_eq!(failed, ids[4..]);
    let (mut found, mut path) = (Vec::new(), "/api/v1/requests?state=succeeded&template=script&limit=2".to_owned());
    loop {
        let (some, next) = listed(&path);
        found.extend(some);
        let Some(next) = next.as_str() else { break };
        path = format!("/api/v1/requests?state=succeeded&template=script&limit=2&after={next}");
    }
    found.reverse();
    assert_eq!(found, ids[..4]);
    for (query, says) in [("state=x", "state"), ("limit=0", "limit"), ("after=x", "after"), ("x=1", "x")] {
        let (status, problem) = get(&dispatcher, &format!("/api/v1/requests?{query}"));
        assert!(status == 400 && problem["detail"].as_str().is_some_and(|text| text.contains(says)), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_it_is_said_what_cannot_be_known() {
    let world = World::new("where-blind").await;
    let dispatcher = world.dispatcher_with(&["cache.url=redis://127.0.0.1:1"]).await;
    let producer = world.producer().await;
    let id = producer.send(script("sleep 6; echo blind")).await;
    let status = once(&dispatcher, &id, "/state", &json!("started")).await;
    assert!(status["unknown"][0].as_str().is_some_and(|why| why.starts_with("Redis does not say")), "{status}");
    let (code, problem) = get(&dispatcher, "/api/v1/requests");
    assert_eq!((code, &problem["status"]), (503, &json!(503)));
}
