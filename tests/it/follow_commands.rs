//! The commands that are about requests, straight and over HTTP.

use serde_json::{Value, json};

use crate::command_line::{err, out, run};
use crate::support::{Dispatcher, World, eventually};

/// The SHA-256 of "secret".
const OPERATORS: &str = "http.operators=2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

/// How a command reaches what it asks.
struct Way<'a> {
    world: &'a World,
    server: Option<String>,
}

impl Way<'_> {
    async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let server = self.server.iter().flat_map(|server| ["--server", server.as_str()]);
        let arguments: Vec<_> = arguments.iter().copied().chain(server).collect();
        let output = run(self.world, &arguments, "").await;
        (output.status.code(), out(&output), err(&output))
    }

    /// Sends it without waiting; its id.
    async fn send(&self, script: &str) -> String {
        let (code, id, log) =
            self.run(&["submit", "--template", "script", "--param", &format!("script={script}")]).await;
        assert_eq!(code, Some(0), "{log}");
        id.trim().to_owned()
    }
}

fn ways<'a>(world: &'a World, dispatcher: &Dispatcher) -> [Way<'a>; 2] {
    let server = Some(format!("http://127.0.0.1:{}", dispatcher.port));
    [Way { world, server: None }, Way { world, server }]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_followed_found_again_and_asked_for_once_more() {
    let world = World::new("follow").await;
    let dispatcher = world.dispatcher_with(&[OPERATORS]).await;
    for (number, way) in ways(&world, &dispatcher).into_iter().enumerate() {
        // Digits that no number of Rust has, as the worker writes them.
        let script = format!("script=sleep 3; echo '[{number}.10, 123456789012345678901234567890]'");
        let (code, result, log) = way.run(&["submit", "--template", "script", "--param", &script, "--follow"]).await;
        assert_eq!((code, result), (Some(0), format!("[{number}.10, 123456789012345678901234567890]\n")), "{log}");
        assert!(log.contains(" s  started"), "{log}");
        let id = log.lines().find_map(|line| line.strip_prefix("sent     ")).expect("its id").to_owned();
        let ended = async || {
            let (code, page, _) = way.run(&["status", &id]).await;
            (code == Some(0) && page.contains("state      succeeded\n")).then_some(())
        };
        eventually("it is known to have ended", ended).await;
        let (_, status, _) = way.run(&["status", &id, "-o", "json"]).await;
        let status: Value = serde_json::from_str(&status).expect("JSON");
        assert_eq!((&status["request_id"], &status["served_by"]), (&json!(id), &json!("executed")));
        let (code, list, _) =
            way.run(&["list", "--template", "script", "--since", "5m", "--limit", "500", "-o", "wide"]).await;
        assert!(code == Some(0) && list.starts_with("ID ") && list.contains(&id), "{list}");
        let (_, list, _) = way.run(&["list", "--state", "failed", "--limit", "500", "-o", "yaml"]).await;
        assert!(!list.contains(&id), "{list}");
        let (code, again, log) = way.run(&["retry", &id]).await;
        assert_eq!(code, Some(0), "{log}");
        let (code, page, _) = way.run(&["status", again.trim(), "--watch"]).await;
        assert!(code == Some(0) && page.contains("served_by  cache\n"), "{page}");
    }
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_request_is_read_and_it_is_cancelled() {
    let world = World::new("end").await;
    let dispatcher = world.dispatcher_with(&[OPERATORS]).await;
    for (number, way) in ways(&world, &dispatcher).into_iter().enumerate() {
        let id = way.send(&format!("echo begun {number}; sleep 60")).await;
        let begun = async || (way.run(&["logs", &id]).await.1 == format!("begun {number}\n")).then_some(());
        eventually("its log is there", begun).await;
        let (code, cancelled, log) = way.run(&["cancel", &id]).await;
        assert_eq!((code, cancelled), (Some(0), format!("cancelled  {id}\n")), "{log}");
        let (code, page, _) = way.run(&["status", &id, "--watch"]).await;
        assert!(code == Some(1) && page.contains("state      cancelled\n"), "{page}");
        let short = way.send(&format!("echo one {number}; sleep 2; echo two")).await;
        let running = async || way.run(&["status", &short]).await.1.contains("state      started").then_some(());
        eventually("it runs", running).await;
        assert_eq!(way.run(&["logs", &short, "-f"]).await.1, format!("one {number}\ntwo\n"));
        let (code, _, log) = way.run(&["status", "nobody"]).await;
        assert!(code == Some(1) && log.contains("nothing is known of a request `nobody`"), "{log}");
    }
    let nobody = Way { world: &world, server: Some("http://127.0.0.1:1".into()) };
    let (code, _, log) = nobody.run(&["status", "x"]).await;
    assert!(code == Some(3) && log.contains("cannot reach http://127.0.0.1:1/ (`--server`)"), "{log}");
    world.settled().await;
}
