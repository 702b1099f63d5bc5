//! KEDA's operator, outside of the cluster, with one ScaledJob.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::contender::Running;
use crate::stack::{Stack, root};

/// The queue that it looks at.
pub(crate) const QUEUE: &str = "bench.keda";

/// Where `deploy/local/bench` has put the operator and its resource definitions.
fn built(name: &str) -> PathBuf {
    root().join("target/bench-keda").join(name)
}

pub(crate) fn is_built() -> bool {
    built("operator").exists()
}

/// How it is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keda {
    pub(crate) name: &'static str,
    /// Seconds from one look at the queue to the next.
    pub(crate) poll: u32,
    /// Requests a second to the API server, and how many at once.
    pub(crate) limits: Option<(u32, u32)>,
}

/// As it comes; it creates at most 100 Jobs a poll unless told otherwise, which it is here in all cases.
pub(crate) const DEFAULT: Keda = Keda { name: "KEDA, defaults", poll: 30, limits: None };
pub(crate) const TUNED: Keda = Keda { name: "KEDA, poll 1 s, QPS 500", poll: 1, limits: Some((500, 1000)) };

impl Keda {
    /// The operator, following its ScaledJob.
    pub(crate) fn start(self, stack: &Stack) -> Result<Running> {
        stack.define(&built("crd"), &["scaledjobs.keda.sh"])?;
        stack.kubectl(&["apply", "-f", "-"], "{apiVersion: v1, kind: Namespace, metadata: {name: keda}}")?;
        stack.kubectl(&["apply", "-f", "-"], &self.scaled_job(stack))?;
        let certificates = stack.dir.join("keda-certificates");
        certify(&certificates)?;
        let mut command = Command::new(built("operator"));
        command
            .env("KUBECONFIG", stack.kubeconfig())
            .envs([("WATCH_NAMESPACE", "work"), ("POD_NAMESPACE", "keda"), ("POD_NAME", "keda")])
            .env("KEDA_CLUSTER_OBJECT_NAMESPACE", "keda")
            .args(["--metrics-bind-address", "127.0.0.1:0", "--health-probe-bind-address", "127.0.0.1:0"])
            .args(["--metrics-service-bind-address", "127.0.0.1:0", "--cert-dir"])
            .arg(&certificates);
        if let Some((rate, burst)) = self.limits {
            command.args(["--kube-api-qps", &rate.to_string(), "--kube-api-burst", &burst.to_string()]);
        }
        Running::start(command, &stack.dir.join("log/keda.log"))
    }

    /// Takes the ScaledJob away, which ends what the operator does.
    pub(crate) fn forget(stack: &Stack) -> Result<()> {
        stack.run(&["kubectl", "-n", "work", "delete", "scaledjob", "bench", "--ignore-not-found"]).map(drop)
    }

    fn scaled_job(self, stack: &Stack) -> String {
        format!(
            r#"
apiVersion: keda.sh/v1alpha1
kind: ScaledJob
metadata: {{name: bench, namespace: work}}
spec:
  pollingInterval: {poll}
  maxReplicaCount: 1000
  jobTargetRef:
    backoffLimit: 0
    template:
      spec:
        restartPolicy: Never
        automountServiceAccountToken: false
        containers:
        - {{name: worker, image: "registry.local/worker:1"}}
  triggers:
  - type: rabbitmq
    metadata: {{protocol: amqp, queueName: {QUEUE}, mode: QueueLength, value: "1", host: "{url}"}}
"#,
            poll = self.poll,
            url = stack.amqp(),
        )
    }
}

/// What its metrics service asks for, and nobody here looks at.
fn certify(dir: &std::path::Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let output = Command::new("openssl")
        .current_dir(dir)
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"])
        .args(["-subj", "/CN=keda-operator", "-keyout", "tls.key", "-out", "tls.crt"])
        .output()
        .context("openssl")?;
    if !output.status.success() {
        bail!("openssl: {}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::copy(dir.join("tls.crt"), dir.join("ca.crt"))?;
    ensure!(dir.join("tls.key").exists(), "openssl has made no key");
    Ok(())
}
