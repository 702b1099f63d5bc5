//! `jobquay cache`: results read and removed by hand, and keys explained.

use serde_json::{Value, json};

use crate::cache_values::key_of;
use crate::command_line::{err, out, run};
use crate::support::stack::STACK;
use crate::support::{Request, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_result_is_printed_as_the_worker_left_it_and_removed_by_hand() {
    let world = World::new("cache-get").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let request = || Request::template("script", &json!({"script": "printf '\\033[1m\\n'"}));
    let event = producer.ask(request()).await;
    let key = key_of(&event).to_string();

    let bytes = run(&world, &["cache", "get", &key], "").await;
    assert_eq!((bytes.status.code(), bytes.stdout.as_slice()), (Some(0), b"\x1b[1m\n".as_slice()), "{}", err(&bytes));
    let known = run(&world, &["cache", "get", key.trim_start_matches("sha256:"), "-o", "json"], "").await;
    let known: Value = serde_json::from_str(&out(&known)).expect("JSON");
    assert_eq!((&known["key"], &known["bytes"], &known["expired"]), (&json!(key), &json!(5), &json!(false)));
    assert_eq!((&known["sha256"], &known["job"]), (event.result("sha256"), &event.data()["job"]));

    let nobodys = format!("sha256:{}", "0".repeat(64));
    let removed = run(&world, &["cache", "rm", &key, &nobodys], "").await;
    assert_eq!((removed.status.code(), out(&removed)), (Some(0), format!("removed   {key}\nnot kept  {nobodys}\n")));
    let gone = run(&world, &["cache", "get", &key], "").await;
    assert_eq!((gone.status.code(), gone.stdout.len()), (Some(1), 0));
    assert!(err(&gone).contains("no result is kept under sha256:"), "{}", err(&gone));
    world.settled().await;
    assert_eq!(producer.ask(request()).await.served_by(), "executed");

    let mistyped = run(&world, &["cache", "get", "sha256:12"], "").await;
    assert_eq!(mistyped.status.code(), Some(2));
    assert!(err(&mistyped).contains("64 hex digits"), "{}", err(&mistyped));
    let away = run(&world, &["cache", "get", &key, "--set", "cache.url=redis://127.0.0.1:1"], "").await;
    assert_eq!(away.status.code(), Some(3), "{}", err(&away));
}

/// Explained without broker, Redis or cluster, and true of what a dispatcher does.
#[tokio::test(flavor = "multi_thread")]
async fn two_requests_are_explained_as_a_dispatcher_treats_them() {
    let world = World::new("cache-explain").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let dir = STACK.dir.join(&world.name);
    std::fs::create_dir_all(&dir).expect("a directory");
    let file = |name: &str, body: &Value| {
        let path = dir.join(name);
        std::fs::write(&path, body.to_string()).expect("a request");
        path.display().to_string()
    };
    let body = |name: &str, script: &str| json!({"template": "stale", "params": {"name": name, "script": script}});
    let one = file("one.json", &body("a", "echo 1"));
    producer.ask(Request::json(&body("a", "echo 1"))).await;
    for (other, exit, served_by, line) in [
        (body("a", "echo 2"), 0, "cache", "ignored  /params/script: \"echo 1\" | \"echo 2\""),
        (body("b", "echo 1"), 1, "executed", "differs  /params/name: \"a\" | \"b\""),
    ] {
        let explained = run(&world, &["cache", "explain", &one, &file("other.json", &other)], "").await;
        assert_eq!(explained.status.code(), Some(exit), "{}", err(&explained));
        assert_eq!(out(&explained).lines().last(), Some(line), "{}", out(&explained));
        let event = producer.ask(Request::json(&other)).await;
        assert_eq!(event.served_by(), served_by);
        assert!(out(&explained).contains(&key_of(&event).to_string()), "{}", out(&explained));
    }
    let other = file("other.json", &body("b", "echo 1"));
    let explained = run(&world, &["cache", "explain", &one, &other, "-o", "json"], "").await;
    let explained: Value = serde_json::from_str(&out(&explained)).expect("JSON");
    let difference = json!([{"place": "/params/name", "values": ["a", "b"], "decides": true}]);
    assert_eq!((&explained["equal"], &explained["differences"]), (&json!(false), &difference));

    let wrong = file("wrong.json", &json!({"template": "stale", "params": {"name": 1}}));
    let refused = run(&world, &["cache", "explain", &one, &wrong], "").await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(err(&refused).contains("wrong.json is refused") && err(&refused).contains("/params"), "{}", err(&refused));
}
