//! Jobs in more than one namespace.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_request_runs_in_the_namespace_it_names_as_far_as_policy_and_configuration_go() {
    let world = World::new("namespaces").await;
    let second = format!("{}-2", world.name);
    let namespaces = Api::<Namespace>::all(world.client.clone());
    for name in [second.clone(), format!("{}-3", world.name)] {
        let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).expect("a Namespace");
        namespaces.create(&PostParams::default(), &namespace).await.expect("a namespace");
    }
    let accounts = Api::<ServiceAccount>::namespaced(world.client.clone(), &second);
    eventually("the default service account", async || accounts.get_opt("default").await.ok().flatten()).await;
    let dir = STACK.dir.join(format!("{}-templates", world.name));
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("placed.yaml"), TEMPLATE.replace("OWN", &world.name)).expect("a template");
    let policy = STACK.dir.join(format!("{}.yaml", world.name));
    let allowed = format!("{}(-[23])?", world.name);
    let text = format!(
        "policies:\n- {{name: all, users: ['.*'], templates: ['.*'], namespaces: ['{allowed}'], reply_to: ['.*']}}\n"
    );
    std::fs::write(&policy, text).expect("a policy file");
    let settings = [
        format!("templates.dir={}", dir.display()),
        format!("policy.file={}", policy.display()),
        format!("kubernetes.namespaces={second}"),
    ];
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
    for name in [format!("{}-3", world.name), "kube-system".into()] {
        let event = producer.ask(Request::template("placed", &json!({"where": name}))).await;
        let refusal = (event.state(), event.error("code"), event.error("pointer"));
        assert_eq!(refusal, ("rejected", &json!("policy.denied"), &json!("/params/where")), "{name}");
    }
    for name in [second.clone(), format!("{}-3", world.name)] {
        namespaces.delete(&name, &DeleteParams::default()).await.expect("it goes");
    }
}
