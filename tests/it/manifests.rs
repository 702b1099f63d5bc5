//! The manifests of deploy/kubernetes, applied to the real API server, and the dispatcher under the
//! rights that they give.

use std::process::Command;
use std::time::Duration;

use jobquay::cluster::{Clients, Origin, access};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use crate::support::stack::{STACK, root};
use crate::support::{Request, World};

const NAMESPACE: &str = "jobquay-work";
const LIMIT: Duration = Duration::from_secs(10);

fn kubectl(arguments: &[&str]) -> String {
    let output = Command::new(root().join("deploy/local/stack"))
        .arg("kubectl")
        .args(arguments)
        .current_dir(root())
        .env("STACK_DIR", &STACK.dir)
        .output()
        .expect("deploy/local/stack can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kubectl {arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The admin's kubeconfig, with the service account's token for the admin's certificate.
fn kubeconfig_of_the_service_account() -> Kubeconfig {
    let mut kubeconfig = Kubeconfig::read_from(STACK.value("KUBECONFIG")).expect("the stack's kubeconfig");
    let token = kubectl(&["-n", "jobquay", "create", "token", "jobquay", "--duration=1h"]);
    for user in &mut kubeconfig.auth_infos {
        user.auth_info = Some(serde_json::from_value(json!({"token": token})).expect("a user"));
    }
    kubeconfig
}

async fn clients(kubeconfig: Kubeconfig) -> Clients {
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a configuration");
    let client = Client::try_from(config).expect("a client");
    Clients {
        write: client.clone(),
        read: client.clone(),
        watch: client,
        namespace: NAMESPACE.into(),
        namespaces: jobquay::domain::namespaces::Namespaces::default(),
        time: jobquay::cluster::ServerTime::default(),
        server: String::new(),
        origin: Origin::Kubeconfig,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifests_apply_and_give_exactly_the_rights_that_a_dispatcher_uses() {
    let world = World::new("manifests").await;
    kubectl(&["apply", "--validate=strict", "-f", "deploy/kubernetes/"]);
    // Its image is nowhere to be pulled.
    kubectl(&["-n", "jobquay", "scale", "deployment", "jobquay", "--replicas=0"]);
    let kubeconfig = kubeconfig_of_the_service_account();
    let file = STACK.dir.join(format!("{}.kubeconfig", world.name));
    std::fs::write(&file, serde_json::to_string(&kubeconfig).expect("a kubeconfig is JSON")).expect("a file");
    let clients = clients(kubeconfig).await;

    let allowed = async |right, namespace| access::allowed(&clients, right, namespace, LIMIT).await.expect("an answer");
    for right in access::NEEDED.into_iter().chain(access::MEMBER) {
        assert!(allowed(right, Some(NAMESPACE)).await, "{right:?} is needed");
        assert!(!allowed(right, Some("default")).await, "{right:?} in another namespace");
        assert!(!allowed(right, None).await, "{right:?} in the whole cluster");
    }
    for right in [
        ("coordination.k8s.io", "leases", "update"),
        ("", "secrets", "get"),
        ("", "secrets", "list"),
        ("", "configmaps", "get"),
        ("", "pods", "create"),
        ("", "pods", "delete"),
        ("", "pods/exec", "create"),
        ("", "pods/attach", "create"),
        ("", "pods/portforward", "create"),
        ("batch", "jobs", "update"),
        ("batch", "jobs/status", "patch"),
        ("batch", "cronjobs", "create"),
        ("", "serviceaccounts/token", "create"),
        ("rbac.authorization.k8s.io", "rolebindings", "create"),
    ] {
        assert!(!allowed(right, Some(NAMESPACE)).await, "{right:?} must not be allowed");
    }

    let environment = [("KUBECONFIG", file.to_str().expect("a path")), ("JOBQUAY__KUBERNETES__NAMESPACE", NAMESPACE)];
    let templates = format!("templates.dir={}", root().join("examples/templates").display());
    let dispatcher = world.dispatcher_in(&environment, &[&templates]).await;
    let mut producer = world.producer().await;
    let hello = || Request::template("hello", &json!({"name": "Ada"}));
    let event = producer.ask(hello()).await;
    assert_eq!((event.state(), event.result("json")), ("succeeded", &json!({"hello": "Ada"})));
    let refresh = json!({"template": "hello", "params": {"name": "Ada"}, "cache": {"mode": "refresh"}});
    assert_eq!(producer.ask(Request::json(&refresh)).await.served_by(), "executed", "and makes room for another run");
    assert!(!dispatcher.log().contains("forbidden"));
}
