//! The query job this system started from: a key file from a Secret, mounted where
//! GOOGLE_APPLICATION_CREDENTIALS points; label app=sample; never restarted, retried three times,
//! gone a minute after its end.

use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use crate::support::{Request, World};

const SCRIPT: &str = r#"printf '{"args":"%s","key":%s}' "$1" "$(cat "$GOOGLE_APPLICATION_CREDENTIALS")""#;

fn assert_seed_shape(job: &Job, pull_policy: &str) {
    let job = serde_json::to_value(job).expect("a Job is JSON");
    let spec = &job["spec"];
    assert_eq!(job["metadata"]["labels"]["app"], "sample");
    assert_eq!((&spec["backoffLimit"], &spec["ttlSecondsAfterFinished"]), (&json!(3), &json!(60)));
    let pod = &spec["template"]["spec"];
    assert_eq!(
        (&pod["restartPolicy"], &spec["template"]["metadata"]["labels"]["app"]),
        (&json!("Never"), &json!("sample"))
    );
    let container = &pod["containers"][0];
    assert_eq!(container["imagePullPolicy"], pull_policy);
    let variable = container["env"]
        .as_array()
        .expect("variables")
        .iter()
        .find(|variable| variable["name"] == "GOOGLE_APPLICATION_CREDENTIALS");
    assert_eq!(variable.expect("the variable")["value"], "/var/secrets/google/key.json");
    let mount = &container["volumeMounts"][0];
    assert_eq!((&mount["mountPath"], &mount["readOnly"]), (&json!("/var/secrets/google"), &json!(true)));
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], "seed-credentials");
}

fn inline() -> Value {
    json!({"job": {
        "name": "nightly-query", "image": "registry.local/worker:1",
        "command": ["sh", "-c", SCRIPT, "query"], "args": ["2026-11-24 $(HOME) $$"],
        "secret": {"name": "seed-credentials", "mount": "/var/secrets/google"}, "resources": {"memory": "32Mi"},
    }})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_job_runs_from_one_inline_request() {
    let world = World::new("seed-inline").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let event = producer.ask(Request::json(&inline())).await;
    assert_eq!(event.state(), "succeeded", "{}", event.data());
    // The container saw the exact bytes: the kubelet expanded nothing.
    assert_eq!(event.result("json"), &json!({"args": "2026-11-24 $(HOME) $$", "key": {"project": "demo"}}));
    let job = world.the_job().await;
    assert!(job.metadata.name.as_deref().is_some_and(|name| name.starts_with("jq-nightly-query-")));
    assert_seed_shape(&job, "IfNotPresent");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_job_runs_from_a_template() {
    let world = World::new("seed-template").await;
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let event = producer.ask(Request::template("query", &json!({"day": "2026-11-24"}))).await;
    assert_eq!(event.result("json"), &json!({"day": "2026-11-24", "credentials_bytes": 18}));
    assert_seed_shape(&world.the_job().await, "IfNotPresent");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pull_policy_is_always_unless_configured() {
    let world = World::new("seed-pull").await;
    let _dispatcher = world.dispatcher_with(&["inline.image_pull_policy=Always"]).await;
    let producer = world.producer().await;
    producer.send(Request::json(&inline())).await;
    assert_seed_shape(&world.the_job().await, "Always");
}
