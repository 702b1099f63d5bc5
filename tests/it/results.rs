//! Where results are read, and how large they may be.

use kube::api::{DeleteParams, LogParams};
use serde_json::json;

use crate::support::{Request, World, eventually};

fn request(template: &str, script: &str) -> Request {
    Request::template(template, &json!({"script": script}))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_source_gives_its_bytes() {
    let world = World::new("sources").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let both = "echo out; printf note > /dev/termination-log";
    for (template, script, field, expected) in [
        ("script", both, "text", json!("out\n")),
        ("message", both, "text", json!("note")),
        ("auto", both, "text", json!("note")),
        ("auto", "echo '[1, 2]'", "json", json!([1, 2])),
        ("script", "printf '\\377\\000'", "base64", json!("/wA=")),
        ("script", "true", "text", json!("")),
    ] {
        let event = producer.ask(request(template, script)).await;
        assert_eq!(event.result(field), &expected, "{template}: {script}: {}", event.data());
    }
    let none = producer.ask(request("none", both)).await;
    assert_eq!((none.state(), none.data().get("result")), ("succeeded", None));
    let cached = producer.ask(request("none", both)).await;
    assert_eq!((cached.served_by(), cached.data().get("result")), ("cache", None));
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_over_its_limit_is_a_failure_and_never_cut() {
    let world = World::new("too-large").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let zeros = |bytes: usize| format!("head -c {bytes} /dev/zero | tr '\\0' x");
    let fits = producer.ask(request("script", &zeros(65_536))).await;
    assert_eq!((fits.state(), fits.result("bytes")), ("succeeded", &json!(65_536)));
    for (template, script) in
        [("script", zeros(65_537)), ("message", format!("{} > /dev/termination-log", zeros(4096)))]
    {
        let event = producer.ask(request(template, &script)).await;
        assert_eq!((event.state(), event.error("code")), ("failed", &json!("result.too_large")), "{template}");
        assert!(event.data().get("result").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_result_is_a_reference_that_can_be_followed() {
    let world = World::new("reference").await;
    let dispatcher =
        world.dispatcher_with(&["http.public_url=http://jobquay.example", "results.inline_max=1KiB"]).await;
    let mut producer = world.producer().await;
    // Long lines: a container runtime that writes its log line by line may lose the end of a burst of short ones.
    let lines = "for i in $(seq 300); do printf '%02000d\n' $i; done";
    for served_by in ["executed", "cache"] {
        let event = producer.ask(request("large", lines)).await;
        assert_eq!((event.state(), event.served_by()), ("succeeded", served_by));
        assert!(event.data()["result"].get("text").is_none());
        let url = event.result("ref")["url"].as_str().expect("a URL").to_owned();
        let path = url.strip_prefix("http://jobquay.example").expect("under the public URL");
        let (status, body) = dispatcher.get(path).expect("an answer");
        assert_eq!((status, body.lines().count(), body.len()), (200, 300, 300 * 2001));
        assert_eq!(event.result("bytes"), &json!(body.len()));
        let headers = dispatcher.headers(path);
        for line in [
            "content-type: text/plain",
            "x-content-type-options: nosniff",
            "content-security-policy: default-src 'none'; sandbox",
        ] {
            assert!(headers.lines().any(|found| found.starts_with(line)), "{line}: {headers}");
        }
    }
    assert_eq!(dispatcher.get(&format!("/api/v1/results/{}", "0".repeat(64))).expect("an answer").0, 404);
    assert_eq!(dispatcher.get("/api/v1/results/x").expect("an answer").0, 400);
}

/// A node is drained while the worker is just done: it ends well, the kubelet removes its log, and our finalizer keeps a
/// pod without one. Asked for that log, the kubelet answers with 200 and the words of its error.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_kubelet_says_in_place_of_a_log_is_nobodys_result() {
    let world = World::new("no-log").await;
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let script = "trap 'echo done; exit 0' TERM; while true; do sleep 0.1; done";
    let id = producer.send(request("script", script)).await;
    let pod = world.running_pod().await.metadata.name.expect("a pod has a name");
    dispatcher.kill();
    world.pods().delete(&pod, &DeleteParams::default()).await.expect("a delete");
    eventually("its log is gone", async || {
        let log = world.pods().logs(&pod, &LogParams::default()).await.unwrap_or_default();
        log.starts_with("unable to retrieve container logs").then_some(())
    })
    .await;
    let _next = world.dispatcher().await;
    let event = producer.event().await;
    assert_eq!(event.request_id(), id);
    assert_eq!((event.state(), event.error("code")), ("failed", &json!("result.lost")), "{}", event.data());
    world.settled().await;
    let only = json!({"template": "script", "params": {"script": script}, "cache": {"mode": "only"}});
    let again = producer.ask(Request::json(&only)).await;
    assert_eq!(again.error("code"), "cache.miss", "nothing was kept");
}
