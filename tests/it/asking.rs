//! What operators do over HTTP: ask for something, end it, ask again, follow it, and look at what is kept and queued.

use serde_json::{Value, json};

use crate::support::{Dispatcher, Request, World, eventually};
use crate::whereabouts::{get, once};

/// The SHA-256 of "secret".
const OPERATORS: &str = "http.operators=2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

fn operate(dispatcher: &Dispatcher, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let body = body.map(ToString::to_string);
    let mut arguments = vec!["--max-time", "30", "-X", method, "-H", "Authorization: Bearer secret"];
    if let Some(body) = &body {
        arguments.extend(["-H", "Content-Type: application/json", "--data-binary", body]);
    }
    let (status, text) = dispatcher.call(&arguments, path).expect("an answer");
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn script(text: &str) -> Value {
    json!({"template": "script", "params": {"script": text}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_submitted_over_http_goes_through_the_queue_and_can_be_followed_and_asked_for_again() {
    let world = World::new("submit-http").await;
    let recorder = world.recorder();
    let dispatcher = world.dispatcher_with(&[OPERATORS]).await;
    let (status, submitted) = operate(&dispatcher, "POST", "/api/v1/requests", Some(&script("sleep 3; echo here")));
    assert_eq!(status, 202, "{submitted}");
    let (id, path) = (submitted["request_id"].as_str().expect("an id"), submitted["status"].as_str().expect("a path"));
    assert_eq!(path, format!("/api/v1/requests/{id}"));
    let (status, followed) =
        dispatcher.call(&["--max-time", "40", "-N"], &format!("{path}/events")).expect("events to the end");
    assert_eq!(status, 200);
    let told: Vec<_> = followed.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let states: Vec<Value> =
        told.iter().map(|data| serde_json::from_str::<Value>(data).expect("JSON")["state"].clone()).collect();
    assert_eq!(states.last(), Some(&json!("succeeded")), "{followed}");
    assert!(followed.contains("event: event\n") && followed.contains("id: "), "{followed}");
    let (_, ended) = get(&dispatcher, path);
    assert_eq!((&ended["result"]["text"], &ended["producer"]), (&json!("here\n"), &json!("guest")));

    let (status, again) = operate(&dispatcher, "POST", &format!("{path}/retry"), None);
    assert_eq!(status, 202, "{again}");
    once(&dispatcher, again["request_id"].as_str().expect("an id"), "/served_by", &json!("cache")).await;
    let (status, anew) = operate(&dispatcher, "POST", &format!("{path}/retry?cache=bypass"), None);
    assert_eq!(status, 202, "{anew}");
    once(&dispatcher, anew["request_id"].as_str().expect("an id"), "/served_by", &json!("executed")).await;
    assert_eq!(recorder.jobs(), 2);
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_would_be_rejected_is_refused_with_its_place_and_asked_twice_under_one_key_it_is_one() {
    let world = World::new("refused-http").await;
    let dispatcher = world.dispatcher_with(&[OPERATORS]).await;
    let submit = |body: &Value| operate(&dispatcher, "POST", "/api/v1/requests", Some(body));
    for (body, code, pointer) in [
        (json!({"template": "nothing"}), "template.unknown", "/template"),
        (json!({"template": "script", "params": {"script": 1}}), "params.invalid", "/params/script"),
        (json!({"cancel": {"request_id": "x"}}), "request.malformed", "/cancel"),
        (json!({"template": "script", "more": 1}), "request.unknown_field", "/more"),
    ] {
        let (status, problem) = submit(&body);
        assert_eq!((status, &problem["code"], &problem["pointer"]), (422, &json!(code), &json!(pointer)), "{problem}");
    }
    let (status, problem) = dispatcher.call(&["-X", "POST", "-d", "{}"], "/api/v1/requests").expect("an answer");
    assert_eq!(status, 401, "{problem}");
    let submit = || {
        let arguments = [
            "-X",
            "POST",
            "-H",
            "Authorization: Bearer secret",
            "-H",
            "Idempotency-Key: mine",
            "-H",
            "Content-Type: application/json",
            "-d",
            r#"{"template": "script", "params": {"script": "echo once"}}"#,
        ];
        dispatcher.call(&arguments, "/api/v1/requests").expect("an answer").0
    };
    assert_eq!((submit(), submit()), (202, 202));
    once(&dispatcher, "mine", "/state", &json!("succeeded")).await;
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_cancelled_for_its_producer_and_its_log_is_read_while_it_runs() {
    let world = World::new("cancel-http").await;
    let dispatcher = world.dispatcher_with(&[OPERATORS]).await;
    let mut producer = world.producer().await;
    let params = json!({"script": "echo begun; sleep 60"});
    let id = producer.send(Request::template("script", &params)).await;
    once(&dispatcher, &id, "/state", &json!("started")).await;
    let log = async || {
        let (status, text) = dispatcher.get(&format!("/api/v1/requests/{id}/logs?tail=5")).expect("an answer");
        (status == 200 && text == "begun\n").then_some(())
    };
    eventually("its log is there", log).await;
    let (status, cancelled) = operate(&dispatcher, "POST", &format!("/api/v1/requests/{id}/cancel"), None);
    assert_eq!((status, &cancelled["outcome"]), (200, &json!("cancelled")), "{cancelled}");
    assert_eq!(producer.event().await.state(), "cancelled");
    once(&dispatcher, &id, "/state", &json!("cancelled")).await;
    let (status, problem) = operate(&dispatcher, "POST", &format!("/api/v1/requests/{id}/cancel"), None);
    assert_eq!((status, &problem["detail"]), (409, &json!("it has ended: cancelled")));
    assert_eq!(operate(&dispatcher, "POST", "/api/v1/requests/nobody/cancel", None).0, 404);
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_counted_shown_and_removed_by_key_and_by_template() {
    let world = World::new("kept-http").await;
    let dispatcher = world.dispatcher_with(&[OPERATORS]).await;
    let mut producer = world.producer().await;
    // What an earlier run of this test has left.
    assert_eq!(operate(&dispatcher, "DELETE", "/api/v1/cache?template=kept", None).0, 200);
    let ask = |number: usize| Request::template("kept", &json!({"say": format!("{} {number}", world.name)}));
    let mut keys = Vec::new();
    for number in 0..3 {
        let event = producer.ask(ask(number)).await;
        keys.push(event.data()["key"].as_str().expect("a key").to_owned());
    }
    let count = || get(&dispatcher, "/api/v1/cache?template=kept").1["templates"]["kept"]["results"].clone();
    assert_eq!(count(), json!(3));
    let (status, one) = get(&dispatcher, &format!("/api/v1/cache/{}", keys[0]));
    assert_eq!((status, &one["template"], &one["expired"]), (200, &json!("kept"), &json!(false)), "{one}");
    let (status, removed) = operate(&dispatcher, "DELETE", &format!("/api/v1/cache/{}", keys[0]), None);
    assert_eq!((status, removed), (200, json!({"removed": 1})));
    assert_eq!((get(&dispatcher, &format!("/api/v1/cache/{}", keys[0])).0, count()), (404, json!(2)));
    assert_eq!(operate(&dispatcher, "DELETE", "/api/v1/cache", None).0, 400);
    let (status, removed) = operate(&dispatcher, "DELETE", "/api/v1/cache?template=kept", None);
    assert_eq!((status, removed), (200, json!({"removed": 2})));
    assert_eq!(producer.ask(ask(1)).await.served_by(), "executed");
    assert_eq!(get(&dispatcher, "/api/v1/cache/xyz").0, 400);
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn templates_queues_and_the_dispatcher_itself_are_shown() {
    let world = World::new("shown-http").await;
    let dispatcher = world.dispatcher_with(&[OPERATORS]).await;
    let (_, templates) = get(&dispatcher, "/api/v1/templates");
    let names: Vec<_> = templates["templates"].as_array().expect("templates").iter().map(|one| &one["name"]).collect();
    assert!(names.contains(&&json!("script")), "{names:?}");
    let (_, template) = get(&dispatcher, "/api/v1/templates/script");
    assert_eq!(template["parameters"]["properties"]["script"]["type"], "string");
    let (status, rendered) =
        operate(&dispatcher, "POST", "/api/v1/templates/script/render", Some(&json!({"script": "echo"})));
    assert_eq!((status, &rendered["job"]["kind"]), (200, &json!("Job")), "{rendered}");
    assert_eq!(operate(&dispatcher, "POST", "/api/v1/templates/script/render", Some(&json!({"x": 1}))).0, 422);
    let (_, queues) = get(&dispatcher, "/api/v1/queues");
    let named: Vec<_> = queues["queues"].as_array().expect("queues").iter().map(|one| &one["queue"]).collect();
    assert!(named.contains(&&json!("jobquay.requests")) && named.contains(&&json!("jobquay.dead")), "{queues}");
    let (_, system) = get(&dispatcher, "/api/v1/system");
    assert_eq!((&system["ready"], &system["members"]), (&json!(true), &json!(1)), "{system}");
    let (_, document) = get(&dispatcher, "/api/v1/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    let (status, problem) =
        dispatcher.call(&["-X", "PATCH", "-H", "Authorization: Bearer secret"], "/api/v1/system").expect("an answer");
    assert!(status == 405 && problem.contains("Method Not Allowed"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_aside_is_listed_and_sent_back() {
    let world = World::new("dead-http").await;
    let dispatcher = world.dispatcher_with(&[OPERATORS]).await;
    let producer = world.producer().await;
    let id = producer.send(Request { no_reply: true, ..Request::template("nothing", &json!({})) }).await;
    let dead = async || {
        let (_, dead) = get(&dispatcher, "/api/v1/dead");
        let messages = dead["messages"].as_array()?.clone();
        messages.into_iter().find(|message| message["id"] == json!(id))
    };
    let message = eventually("it is set aside", dead).await;
    assert_eq!(message["code"], "template.unknown");
    let (status, sent) = operate(&dispatcher, "POST", &format!("/api/v1/dead/{id}/requeue"), None);
    assert_eq!((status, &sent["to"]), (200, &json!("jobquay.requests")), "{sent}");
    eventually("it comes back, for nothing has changed", dead).await;
    assert_eq!(operate(&dispatcher, "POST", "/api/v1/dead/nobody/requeue", None).0, 404);
}
