//! Requests that are refused: each gets its code and place, or goes where an operator finds it.

use std::time::Duration;

use kube::api::PostParams;
use serde_json::{Value, json};

use crate::support::raw_amqp::{Peer, Properties};
use crate::support::stack::STACK;
use crate::support::{Request, World, eventually};

/// The messages in the dead queue, once there are `count` of them.
async fn dead(world: &World, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    eventually("messages in the dead queue", async || {
        found.extend(world.broker.drain("jobquay.dead"));
        (found.len() >= count).then_some(())
    })
    .await;
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_is_answered_with_its_code_and_pointer() {
    let world = World::new("refused").await;
    let dispatcher = world.dispatcher_with(&["intake.max_body=1KiB"]).await;
    let mut producer = world.producer().await;
    let large = format!(r#"{{"template": "script", "params": {{"script": "{}"}}}}"#, "x".repeat(2000));
    for (body, code, pointer) in [
        ("{\"template\": ", "request.malformed", json!("/template")),
        ("[1, 2]", "request.malformed", json!("")),
        (r#"{"template": "script", "parms": {}}"#, "request.unknown_field", json!("/parms")),
        (r#"{"template": "scirpt"}"#, "template.unknown", json!("/template")),
        (r#"{"template": "script", "params": {"script": 7}}"#, "params.invalid", json!("/params/script")),
        (r#"{"template": "script", "params": {}}"#, "params.invalid", json!("/params")),
        (
            r#"{"template": "script", "params": {"script": "", "n": 9007199254740993}}"#,
            "params.number_out_of_range",
            json!("/params/n"),
        ),
        (r#"{"job": {"name": "x", "image": "elsewhere/x:1"}}"#, "policy.denied", json!("/job/image")),
        (r#"{"template": "script", "params": {"script": "x"}, "cache": {"mode": "only"}}"#, "cache.miss", Value::Null),
        (large.as_str(), "request.too_large", Value::Null),
    ] {
        let event = producer.ask(Request { body: body.into(), ..Request::default() }).await;
        assert_eq!((event.state(), event.error("code")), ("rejected", &json!(code)), "{body:.60}");
        assert_eq!(event.error("pointer"), &pointer, "{body:.60}");
        assert!(!event.error("message").as_str().unwrap_or_default().is_empty());
    }
    assert_eq!(world.all_jobs().await.len(), 0);
    assert_eq!(dispatcher.metric("jobquay_requests_finished_total", "rejected"), 10.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_text_and_has_no_reply_address_goes_to_the_dead_queue_with_its_reason() {
    let world = World::new("dead").await;
    let _dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    producer.send(Request { body: vec![0xff, 0x00, 0x7b], no_reply: true, ..Request::default() }.id("poison-1")).await;
    let dead = dead(&world, 1).await;
    assert_eq!(dead[0]["properties"]["message_id"], "poison-1");
    assert_eq!(dead[0]["properties"]["headers"]["jobquay-code"], "request.malformed");
    assert!(
        dead[0]["properties"]["headers"]["jobquay-reason"].as_str().is_some_and(|reason| reason.contains("not JSON"))
    );
    assert_eq!(
        (&dead[0]["payload"], &dead[0]["payload_encoding"]),
        (&json!("/wB7"), &json!("base64")),
        "the body as it came"
    );
}

/// Sent again from there it is the same request.
#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_event_goes_to_the_dead_queue_under_its_own_id() {
    let world = World::new("dead-event").await;
    let policy = STACK.dir.join(format!("{}.yaml", world.name));
    std::fs::write(&policy, "policies: [{name: nobody, users: ['nobody']}]\n").expect("a policy file");
    let _dispatcher = world.dispatcher_with(&[&format!("policy.file={}", policy.display())]).await;
    let data = json!({"template": "script", "params": {"script": "echo"}});
    let body = json!({"specversion": "1.0", "source": "//shop", "id": "42", "type": "order", "data": data});
    world.producer().await.send_event(&body).await;
    let dead = dead(&world, 1).await;
    assert_eq!(dead[0]["properties"]["message_id"], "//shop/42");
    assert_eq!(dead[0]["properties"]["headers"]["jobquay-code"], "reply_to.denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passed_in_the_queue_ends_the_request_without_a_job() {
    let world = World::new("expired").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let late = |script: &str| {
        let body = json!({"template": "script", "params": {"script": script}, "deadline": "2020-01-01T00:00:00Z"});
        Request::json(&body)
    };
    let event = producer.ask(late("echo late")).await;
    assert_eq!((event.state(), event.body["type"].as_str()), ("expired", Some("dev.jobquay.job.expired.v1")));
    assert_eq!(world.all_jobs().await.len(), 0);
    producer.ask(Request::template("script", &json!({"script": "echo known"}))).await;
    assert_eq!(producer.ask(late("echo known")).await.state(), "expired", "also where the cache knows the result");
    let early = json!({"template": "script", "params": {"script": "echo known"}, "deadline": "2999-01-01T00:00:00Z"});
    assert_eq!(producer.ask(Request::json(&early)).await.served_by(), "cache");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_live_job_can_be_refused_as_a_duplicate() {
    let world = World::new("duplicate").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let body = json!({"template": "script", "params": {"script": "sleep 3; echo one"}, "on_duplicate": "reject"});
    let first = producer.send(Request::json(&body)).await;
    world.the_job().await;
    let second = producer.ask(Request::json(&body)).await;
    assert_eq!((second.state(), second.error("code")), ("rejected", &json!("duplicate")));
    let event = producer.event().await;
    assert_eq!((event.request_id(), event.state()), (first.as_str(), "succeeded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_squatted_job_name_ends_in_an_error_and_never_in_a_result() {
    let world = World::new("squatted").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let request = || Request::template("script", &json!({"script": "echo true-result", "tag": "s"}));
    let name = producer.ask(request()).await.data()["job"]["name"].as_str().expect("a name").to_owned();
    world.settled().await;
    world.jobs().delete(&name, &kube::api::DeleteParams::background()).await.expect("a delete");
    eventually("the name is free", async || {
        world.jobs().get_opt(&name).await.expect("an answer").is_none().then_some(())
    })
    .await;
    let squatter = json!({
        "metadata": {"name": name, "labels": {"app.kubernetes.io/managed-by": "somebody"}},
        "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "w", "image": "registry.local/worker:1"}]}}},
    });
    let squatter = serde_json::from_value(squatter).expect("a Job");
    world.jobs().create(&PostParams::default(), &squatter).await.expect("a squatter");
    let mut refresh = request();
    refresh.body = json!({"template": "script", "params": {"script": "echo true-result", "tag": "s"}, "cache": {"mode": "refresh"}}).to_string().into();
    let event = producer.ask(refresh).await;
    assert_eq!((event.state(), event.error("code")), ("rejected", &json!("cluster.denied")));
    assert!(event.error("message").as_str().is_some_and(|message| message.contains(&name)));
    assert!(world.jobs().get(&name).await.expect("it stands").metadata.finalizers.is_none(), "untouched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_the_api_server_refuses_is_told_in_its_words() {
    let world = World::new("denied").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let body = json!({"job": {"name": "x", "image": "registry.local/worker:1", "resources": {"memory": "lots"}}});
    let event = producer.ask(Request::json(&body)).await;
    assert_eq!((event.state(), event.error("code")), ("rejected", &json!("cluster.denied")));
    assert!(
        event.error("message").as_str().is_some_and(|message| message.contains("quantities")),
        "{}",
        event.error("message")
    );
}

/// The client cannot read a short string that is not UTF-8, and its connection dies of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_correlation_id_that_is_not_utf8_is_parked_by_the_broker_and_its_neighbours_are_answered() {
    let world = World::new("not-utf8").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let before = producer.send(Request::template("script", &json!({"script": "echo before"}))).await;
    let mut properties = Properties::persistent();
    properties.set("correlation_id", b"\xff\xfe");
    let mut peer = Peer::open(&world.broker);
    peer.publish(&properties, br#"{"template": "script", "params": {"script": "echo never"}}"#);
    peer.close();
    let mut after = Vec::new();
    for number in 0..5 {
        after
            .push(producer.send(Request::template("script", &json!({"script": format!("echo after {number}")}))).await);
    }
    let mut answered: Vec<_> = producer.events(6).await.iter().map(|event| event.request_id().to_owned()).collect();
    answered.sort();
    let mut sent = [vec![before], after].concat();
    sent.sort();
    assert_eq!(answered, sent);
    dispatcher.says("a message that the AMQP client cannot parse").await;
    // Parked where nobody consumes, and service goes on by itself.
    eventually("it is parked", async || {
        // No client can read the message, and the management API of RabbitMQ 4 fails on it.
        (world.broker.queue("jobquay.dead")["messages"] == 1).then_some(())
    })
    .await;
    let event = producer.ask(Request::template("script", &json!({"script": "echo again"}))).await;
    assert_eq!(event.state(), "succeeded");
    assert!(producer.event_within(Duration::from_millis(500)).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_address_that_may_not_be_written_to_never_is() {
    let world = World::new("own-queues").await;
    let _dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    for queue in ["jobquay.requests", "jobquay.dead", "jobquay.pending.default"] {
        producer
            .send(Request { reply_to: Some(queue.into()), ..Request::template("script", &json!({"script": "echo x"})) })
            .await;
    }
    let dead = dead(&world, 3).await;
    assert_eq!(dead.len(), 3);
    for message in dead {
        assert_eq!(message["properties"]["headers"]["jobquay-code"], "reply_to.denied");
    }
    assert_eq!(world.all_jobs().await.len(), 0);
}

/// Its template is gone when it is delivered again, as if its acknowledgement had been lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_stands_on_a_job_is_not_refused_by_rules_that_came_later() {
    let world = World::new("refused-later").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let request = || Request::template("script", &json!({"script": "sleep 15; echo made"})).id("placed");
    producer.send(request()).await;
    world.the_job().await;
    dispatcher.kill();
    producer.send(request()).await;
    producer.send(Request::template("script", &json!({"script": "echo never"})).id("nowhere")).await;
    assert!(world.broker.deliver_in_vain("jobquay.requests") >= 2);
    let empty = STACK.dir.join(&world.name);
    std::fs::create_dir_all(&empty).expect("a directory");
    let _next = world.dispatcher_with(&[&format!("templates.dir={}", empty.display())]).await;
    let refused = producer.event().await;
    assert_eq!((refused.request_id(), refused.error("code")), ("nowhere", &json!("template.unknown")));
    let made = producer.event().await;
    assert_eq!((made.request_id(), made.state(), made.result("text")), ("placed", "succeeded", &json!("made\n")));
    assert!(producer.event_within(Duration::from_secs(2)).await.is_none(), "each is told once");
    world.settled().await;
}
