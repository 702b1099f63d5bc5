//! The main job: executed once, answered from the cache afterwards, shared among equals.

use std::collections::HashSet;

use serde_json::json;

use crate::support::{Request, World};

fn script(text: &str) -> Request {
    Request::template("script", &json!({"script": text}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_becomes_a_job_and_its_result_an_event() {
    let world = World::new("executed").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let event = producer.ask(Request { correlation_id: Some("c-ä-1".into()), ..script("echo '{\"ok\": true}'") }).await;

    assert_eq!((event.state(), event.served_by()), ("succeeded", "executed"));
    assert_eq!(event.result("json"), &json!({"ok": true}));
    assert_eq!(event.result("bytes"), 13);
    assert_eq!(event.correlation_id.as_deref(), Some("c-ä-1"));
    assert_eq!(event.message_id.as_deref(), event.body["id"].as_str());
    assert!(event.persistent && event.app_id.as_deref().is_some_and(|app| app.starts_with("jobquay/")));
    let data = event.data();
    assert_eq!(
        (&data["template"], &data["job"]["namespace"], &data["job"]["attempts"]),
        (&json!("script"), &json!(world.name), &json!(1))
    );
    for time in ["received_at", "created_at", "started_at", "finished_at"] {
        assert!(data["timings"][time].is_string(), "{time}");
    }
    world.settled().await;
    let job = world.the_job().await;
    assert_eq!(data["job"]["uid"], json!(job.metadata.uid));
    let labels = job.metadata.labels.unwrap_or_default();
    assert!(!labels.contains_key("jobquay.dev/open"), "released");
    assert!(job.metadata.annotations.unwrap_or_default()["jobquay.dev/outcome"].contains("succeeded"));
    assert_eq!(dispatcher.metric("jobquay_jobs_created_total", ""), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_request_again_is_answered_from_the_cache_without_a_job() {
    let world = World::new("cached").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let first = producer.ask(script("echo $RANDOM-text")).await;
    let second = producer.ask(script("echo $RANDOM-text")).await;
    assert_eq!((second.state(), second.served_by()), ("succeeded", "cache"));
    for field in ["text", "sha256", "bytes", "content_type", "expires_at"] {
        assert_eq!(first.result(field), second.result(field), "{field}");
    }
    assert_eq!(first.data()["key"], second.data()["key"]);
    assert_ne!(first.body["id"], second.body["id"], "another request");
    assert_eq!(world.all_jobs().await.len(), 1);
    assert_eq!(dispatcher.metric("jobquay_cache_lookups_total", "hit"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_equal_requests_at_once_make_one_job_and_twenty_replies() {
    let world = World::new("coalesced").await;
    let recorder = world.recorder();
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let mut sent = HashSet::new();
    for _ in 0..20 {
        sent.insert(producer.send(script("sleep 2; echo done")).await);
    }
    let events = producer.events(20).await;
    let answered: HashSet<_> = events.iter().map(|event| event.request_id().to_owned()).collect();
    assert_eq!(answered, sent);
    let count = |word: &str| events.iter().filter(|event| event.served_by() == word).count();
    assert_eq!((count("executed"), count("coalesced")), (1, 19));
    let results: HashSet<_> = events.iter().map(|event| event.result("sha256").to_string()).collect();
    assert_eq!(results.len(), 1);
    assert_eq!(recorder.jobs(), 1);
    recorder.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_sent_twice_under_one_id_is_told_the_same_twice_by_the_same_id() {
    let world = World::new("twice").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let first = producer.ask(script("echo once").id("order-7")).await;
    let again = producer.ask(script("echo once").id("order-7")).await;
    assert_eq!(first.verdict(), again.verdict());
    assert_eq!(again.served_by(), "cache");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_an_unshared_template_run_each_and_once() {
    let world = World::new("unshared").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let ask = |id: &str| Request::template("unshared", &json!({"script": "echo x"})).id(id);
    let first = producer.ask(ask("a")).await;
    let other = producer.ask(ask("b")).await;
    assert_ne!(first.data()["key"], other.data()["key"]);
    let again = producer.ask(ask("a")).await;
    assert_eq!((again.served_by(), again.verdict()), ("cache", first.verdict()), "sent again, remembered");
    assert_eq!(world.all_jobs().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_through_the_pod_and_out_in_the_event() {
    let world = World::new("trace").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = json!({"template": "script", "params": {"script": "echo $TRACEPARENT; echo $TRACESTATE"}});
    let headers = [("traceparent", traceparent), ("tracestate", "vendor=$(TRACEPARENT)")];
    producer.send_to("jobquay.requests", &body, &headers).await;
    let event = producer.event().await;
    assert_eq!(event.result("text"), &json!(format!("{traceparent}\nvendor=$(TRACEPARENT)\n")));
    assert_eq!(
        (&event.body["traceparent"], &event.body["tracestate"]),
        (&json!(traceparent), &json!("vendor=$(TRACEPARENT)"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_event_is_a_request_and_its_source_and_id_name_it() {
    let world = World::new("cloud-event").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let body = json!({
        "specversion": "1.0", "source": "//shop", "id": "42", "type": "shop.order.placed",
        "data": {"template": "script", "params": {"script": "echo from an event"}},
    });
    for served_by in ["executed", "cache", "cache"] {
        producer.send_event(&body).await;
        let event = producer.event().await;
        assert_eq!((event.request_id(), event.result("text")), ("//shop/42", &json!("from an event\n")));
        assert_eq!(event.served_by(), served_by);
        world.settled().await;
    }
}
