//! Argo Workflows' controller, outside of the cluster. Workflows are submitted to the API server; there is no queue.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use futures_util::{TryStreamExt, stream};
use kube::api::{DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::cluster::NAMESPACE;
use crate::contender::Running;
use crate::stack::{Stack, root};

/// Submits under way at once.
const AT_ONCE: usize = 32;
/// Its configuration must be there, and its port for metrics must not be taken.
const OWN_NAMESPACE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: argo}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: workflow-controller-configmap, namespace: argo}
data: {metricsConfig: '{enabled: false}'}
";
const DEFINITIONS: [&str; 8] = [
    "clusterworkflowtemplates.argoproj.io",
    "cronworkflows.argoproj.io",
    "workflowartifactgctasks.argoproj.io",
    "workfloweventbindings.argoproj.io",
    "workflows.argoproj.io",
    "workflowtaskresults.argoproj.io",
    "workflowtasksets.argoproj.io",
    "workflowtemplates.argoproj.io",
];

/// Where `deploy/local/bench` has put the controller and its resource definitions.
fn built(name: &str) -> PathBuf {
    root().join("target/bench-argo").join(name)
}

pub(crate) fn is_built() -> bool {
    built("workflow-controller").exists()
}

/// How it is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Argo {
    pub(crate) name: &'static str,
    flags: &'static [&'static str],
}

pub(crate) const DEFAULT: Argo = Argo { name: "Argo Workflows, defaults", flags: &[] };
/// As in its own stress test, with the limits that KEDA has here.
pub(crate) const TUNED: Argo = Argo {
    name: "Argo Workflows, QPS 500, 128 workers",
    flags: &["--qps", "500", "--burst", "1000", "--workflow-workers", "128", "--loglevel", "warn"],
};

impl Argo {
    pub(crate) fn start(self, stack: &Stack) -> Result<Running> {
        stack.define(&built("crd"), &DEFINITIONS)?;
        stack.kubectl(&["apply", "-f", "-"], OWN_NAMESPACE)?;
        let mut command = Command::new(built("workflow-controller"));
        command
            .env("KUBECONFIG", stack.kubeconfig())
            .env("LEADER_ELECTION_DISABLE", "true")
            // Watching them, it spins where the API server has forgotten its first revisions (its issue 11657).
            .env("WATCH_CONTROLLER_SEMAPHORE_CONFIGMAPS", "false")
            .args(["--namespace", "argo", "--namespaced", "--managed-namespace", NAMESPACE])
            .args(["--executor-image", "registry.local/argoexec:1"])
            .args(self.flags);
        Running::start(command, &stack.dir.join("log/argo.log"))
    }

    /// Takes away what was submitted; of no use while a controller runs, which looks at each once more.
    pub(crate) fn forget(stack: &Stack) -> Result<()> {
        stack.run(&["kubectl", "-n", NAMESPACE, "delete", "workflows", "--all"]).map(drop)
    }
}

/// Submits a Workflow of one pod for each number.
pub(crate) async fn submit(client: &Client, numbers: impl Iterator<Item = usize>) -> Result<()> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Workflow"));
    let workflows: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &kind);
    stream::iter(numbers.map(Ok::<_, anyhow::Error>))
        .try_for_each_concurrent(AT_ONCE, |number| {
            let workflows = workflows.clone();
            async move {
                let workflow = serde_json::from_value(workflow(number))?;
                workflows.create(&PostParams::default(), &workflow).await.context("a submit")?;
                Ok(())
            }
        })
        .await
}

/// With a command, so that nobody asks a registry for the image's.
fn workflow(number: usize) -> Value {
    let container = json!({"image": "registry.local/worker:1", "command": ["true"]});
    json!({
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"name": format!("bench-{number}"), "namespace": NAMESPACE},
        "spec": {"entrypoint": "main", "templates": [{"name": "main", "container": container}]},
    })
}
