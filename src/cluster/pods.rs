//! Pods of a Job, and the finalizer that keeps them readable.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;

use super::jobs::open_selector;
use super::pages::Pages;
use super::{Error, Jobs, call};
use crate::backoff::Backoff;
use crate::domain::job::finalizer_index as job_finalizer_index;
use crate::domain::manifest::{OPEN, POD_FINALIZER};

/// A pod that is still changing is looked at again so often before the whole is tried anew.
const TRIES: u32 = 5;

impl Jobs {
    /// The pods of exactly this Job, and not of one that had its name before.
    pub async fn pods(&self, uid: &str) -> Result<Vec<Pod>, Error> {
        let selector = format!("batch.kubernetes.io/controller-uid={uid}");
        let list = call(
            "list pods",
            self.shared.call_timeout,
            self.pod_reader().list(&ListParams::default().labels(&selector)),
        )
        .await?;
        Ok(list.items)
    }

    /// Lets the pods of an answered Job go.
    pub async fn release_pods(&self, pods: Vec<Pod>) -> Result<(), Error> {
        for pod in pods {
            self.release_pod(pod).await?;
        }
        Ok(())
    }

    /// The pods that outlived their Job's answer, each with that Job's name and uid: a crash between the two releases leaves
    /// some behind, and nothing else would ever come back to them. `open` are the Jobs that owe answers;
    /// a pod of another one may still be of a Job that is younger than that list.
    pub async fn orphans(&self, open: &HashSet<String>) -> Result<Vec<(OwnerReference, Pod)>, Error> {
        let mut orphans = Vec::new();
        let mut pages = Pages::of(self.pod_reader(), "list pods", &open_selector(), self.shared.call_timeout);
        while let Some(pods) = pages.next().await? {
            for pod in pods {
                if pod_finalizer(&pod).is_none() {
                    // Its result is not its own to keep.
                    continue;
                }
                let mut owners = pod.metadata.owner_references.iter().flatten();
                let Some(owner) = owners.find(|owner| owner.kind == "Job" && !open.contains(&owner.uid)).cloned()
                else {
                    continue;
                };
                let job = self.get(&owner.name).await?.filter(|job| job.metadata.uid.as_ref() == Some(&owner.uid));
                if job.is_none_or(|job| job_finalizer_index(&job).is_none()) {
                    orphans.push((owner, pod));
                }
            }
        }
        Ok(orphans)
    }

    /// Our finalizer, and no other, is taken off. The list is not ours alone, so its place is tested.
    async fn release_pod(&self, mut pod: Pod) -> Result<(), Error> {
        let pods = Api::<Pod>::namespaced(self.shared.clients.write.clone(), self.namespace());
        let name = pod.metadata.name.clone().unwrap_or_default();
        let mut backoff = Backoff::for_calls();
        while let Some(index) = pod_finalizer(&pod) {
            let place = format!("/metadata/finalizers/{index}");
            let operations = json!([
                {"op": "test", "path": "/metadata/uid", "value": pod.metadata.uid},
                {"op": "test", "path": place, "value": POD_FINALIZER},
                {"op": "remove", "path": place},
                {"op": "add", "path": format!("/metadata/labels/{}", OPEN.replace('/', "~1")), "value": "false"},
            ]);
            let patch = Patch::<()>::Json(serde_json::from_value(operations).expect("these are JSON patch operations"));
            let patched = {
                let _write = self.write_slot().await;
                call("release a pod", self.shared.call_timeout, pods.patch(&name, &PatchParams::default(), &patch))
                    .await
            };
            match patched {
                Err(error) if (error.is_conflict() || error.is_unfit()) && backoff.tries() < TRIES => {
                    backoff.wait().await
                }
                Err(error) if error.is_not_found() => return Ok(()),
                done => return done.map(drop),
            }
            match call("get a pod", self.shared.call_timeout, self.pod_reader().get_opt(&name)).await? {
                Some(fresh) if fresh.metadata.uid == pod.metadata.uid => pod = fresh,
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    pub(super) fn pod_reader(&self) -> Api<Pod> {
        Api::namespaced(self.shared.clients.read.clone(), self.namespace())
    }
}

fn pod_finalizer(pod: &Pod) -> Option<usize> {
    pod.metadata.finalizers.iter().flatten().position(|finalizer| finalizer == POD_FINALIZER)
}
