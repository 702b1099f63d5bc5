//! Jobs in more than one namespace.

use jobquay::domain::job::is_running;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::cancel::cancelled;
use crate::support::api_proxy::{ApiProxy, Calls, Fault};
use crate::support::stack::STACK;
use crate::support::{Request, World, eventually};

const TEMPLATE: &str = r#"
name: placed
parameters: {type: object, required: [where], properties: {where: {type: string, examples: [OWN]}}}
job:
  apiVersion: batch/v1
  kind: Job
  metadata: {namespace: "{{ params.where }}"}
  spec:
    backoffLimit: 0
    template:
      spec:
        automountServiceAccountToken: false
        containers:
        - {name: worker, image: "registry.local/worker:1", imagePullPolicy: IfNotPresent, command: [sh, -c, echo here]}
"#;

/// A namespace more, which pods can run in.
async fn beside(world: &World, number: usize) -> String {
    let name = format!("{}-{number}", world.name);
    let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a Namespace");
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
    let accounts = Api::<ServiceAccount>::namespaced(world.client.clone(), &name);
    eventually("the default service account", async || accounts.get_opt("default").await.ok().flatten()).await;
    name
}

async fn remove(world: &World, namespace: &str) {
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces.delete(namespace, &DeleteParams::default()).await.expect("it goes");
}

/// Of a dispatcher that works in a second namespace too, with a template whose Jobs run this script.
fn settings(world: &World, second: &str, script: &str) -> [String; 3] {
    let dir = STACK.dir.join(format!("{}-templates", world.name));
    std::fs::create_dir_all(&dir).expect("a directory");
    let template = TEMPLATE.replace("OWN", &world.name).replace("echo here", script);
    std::fs::write(dir.join("placed.yaml"), template).expect("a template");
    let policy = STACK.dir.join(format!("{}.yaml", world.name));
    let allowed = format!("{}(-[23])?", world.name);
    let text = format!(
        "policies:\n- {{name: all, users: ['.*'], templates: ['.*'], namespaces: ['{allowed}'], reply_to: ['.*']}}\n"
    );
    std::fs::write(&policy, text).expect("a policy file");
    [
        format!("templates.dir={}", dir.display()),
        format!("policy.file={}", policy.display()),
        format!("kubernetes.namespaces={second}"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_runs_in_the_namespace_it_names_as_far_as_policy_and_configuration_go() {
    let world = World::new("namespaces").await;
    let (second, third) = (beside(&world, 2).await, beside(&world, 3).await);
    let settings = settings(&world, &second, "echo here");
    let _dispatcher = world.dispatcher_with(&settings.each_ref().map(String::as_str)).await;
    let mut producer = world.producer().await;
    for name in [&world.name, &second] {
        let event = producer.ask(Request::template("placed", &json!({"where": name}))).await;
        assert_eq!((event.state(), event.result("text")), ("succeeded", &json!("here\n")), "{}", event.data());
        assert_eq!(event.data()["job"]["namespace"], json!(name));
        let job = event.data()["job"]["name"].as_str().expect("a name");
        let jobs = Api::<Job>::namespaced(world.client.clone(), name);
        eventually("the Job is let go", async || {
            jobs.get(job).await.expect("the Job").metadata.finalizers.is_none_or(|left| left.is_empty()).then_some(())
        })
        .await;
    }
    // One that the policy allows and the configuration does not, and one that no policy allows.
    for name in [third.as_str(), "kube-system"] {
        let event = producer.ask(Request::template("placed", &json!({"where": name}))).await;
        let refusal = (event.state(), event.error("code"), event.error("pointer"));
        assert_eq!(refusal, ("rejected", &json!("policy.denied"), &json!("/params/where")), "{name}");
    }
    remove(&world, &second).await;
    remove(&world, &third).await;
}

/// Cancels what runs in the second namespace. Whoever lists the Jobs of that one or of the first is told this, so often.
async fn cancel_in_the_second(world: &str, told_of_first: bool, code: u16, times: usize) {
    let world = World::new(world).await;
    let second = beside(&world, 2).await;
    let proxy = ApiProxy::start(&world).await;
    let settings = settings(&world, &second, "sleep 600");
    let _dispatcher = world.dispatcher_in(&proxy.environment(), &settings.each_ref().map(String::as_str)).await;
    let mut producer = world.producer().await;
    let id = producer.send(Request::template("placed", &json!({"where": second}))).await;
    let jobs = Api::<Job>::namespaced(world.client.clone(), &second);
    let all = async || jobs.list(&ListParams::default()).await.expect("a list of Jobs").items;
    eventually("its Job runs", async || all().await.iter().any(is_running).then_some(())).await;
    let listed = if told_of_first { &world.name } else { &second };
    proxy.fault_in(listed, Calls::JobLists, Fault::Says(code), times);
    let (outcome, event) = cancelled(&mut producer, &id).await;
    assert_eq!(outcome, "cancelled", "{code}");
    let event = event.expect("the request's own answer");
    assert_eq!((event.request_id(), event.state()), (id.as_str(), "cancelled"), "{code}");
    assert!(proxy.heal() > 0, "{code} met no call");
    eventually("the Job is gone", async || all().await.is_empty().then_some(())).await;
    remove(&world, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_passes_over_a_namespace_that_is_refused_to_it() {
    cancel_in_the_second("cancel-refused", true, 403, usize::MAX).await;
}

/// Three times, since one may meet the regular look over all Jobs.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_asks_a_namespace_again_that_does_not_answer_it_now() {
    for (name, code) in [("cancel-throttled", 429), ("cancel-unknown", 401)] {
        cancel_in_the_second(name, false, code, 3).await;
    }
}
