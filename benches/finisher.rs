//! Ends pods by writing their status, as a kubelet would after a run that took no time. Without a node nothing but
//! jobquay, the API server and the Job controller takes time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::Result;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::cluster::job_of;

/// Pods that are ended at once.
const AT_ONCE: usize = 32;

/// The task; it ends with this handle.
pub(crate) struct Finisher {
    ended: Arc<Mutex<HashMap<String, Instant>>>,
    task: JoinHandle<()>,
}

impl Finisher {
    /// Ends every pod of a namespace that has not ended; its result is `message`, as a termination message.
    pub(crate) fn start(client: Client, namespace: &str, message: String) -> Self {
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let ended = Arc::<Mutex<HashMap<_, _>>>::default();
        let task = tokio::spawn(follow(pods, message, Arc::clone(&ended)));
        Self { ended, task }
    }

    /// When the success of a Job's pod was written, by the Job's name.
    pub(crate) fn ended(&self, job: &str) -> Option<Instant> {
        self.ended.lock().expect("nobody panics with it").get(job).copied()
    }
}

impl Drop for Finisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(pods: Api<Pod>, message: String, ended: Arc<Mutex<HashMap<String, Instant>>>) {
    let config = watcher::Config::default().labels("batch.kubernetes.io/job-name");
    let seen = watcher(pods.clone(), config).default_backoff().applied_objects();
    let unended = seen.try_filter(|pod| std::future::ready(is_unended(pod)));
    unended
        .for_each_concurrent(AT_ONCE, |pod| async {
            let Ok(pod) = pod else { return };
            let job = job_of(&pod).unwrap_or_default();
            if end(&pods, &pod, &message).await.is_ok() {
                ended.lock().expect("nobody panics with it").insert(job, Instant::now());
            }
        })
        .await;
}

fn is_unended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

/// Writes the end of a pod that succeeded.
pub(crate) async fn end(pods: &Api<Pod>, pod: &Pod, message: &str) -> Result<()> {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let now = Timestamp::now();
    let statuses: Vec<_> = containers
        .iter()
        .map(|container| {
            json!({
                "name": container.name, "image": container.image, "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "startedAt": now, "finishedAt": now, "message": message}},
            })
        })
        .collect();
    let patch = json!({"status": {"phase": "Succeeded", "startTime": now, "containerStatuses": statuses}});
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}
