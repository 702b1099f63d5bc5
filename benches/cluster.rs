//! The generator's side of the API server.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::stack::Stack;

pub(crate) const NAMESPACE: &str = "work";

/// A client as the cluster's administrator.
pub(crate) async fn client(stack: &Stack) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(stack.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The moments at which objects of one kind were seen to be there, by a watch that sees nothing else of them.
pub(crate) struct Seen {
    moments: Arc<Mutex<Vec<Instant>>>,
    task: JoinHandle<()>,
}

impl Seen {
    /// Jobs, from now on.
    pub(crate) async fn start(client: &Client) -> Result<Self> {
        Self::start_of::<Job>(client).await
    }

    pub(crate) async fn start_of<K>(client: &Client) -> Result<Self>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + fmt::Debug + DeserializeOwned + 'static,
    {
        let objects: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
        let version = objects.list_metadata(&ListParams::default().limit(1)).await?.metadata.resource_version;
        let version = version.context("a list without a version")?;
        let mut events = objects.watch_metadata(&WatchParams::default(), &version).await?.boxed();
        let moments = Arc::<Mutex<Vec<_>>>::default();
        let noted = Arc::clone(&moments);
        let task = tokio::spawn(async move {
            while let Some(Ok(event)) = events.next().await {
                if let WatchEvent::Added(_) = event {
                    noted.lock().expect("nobody panics with it").push(Instant::now());
                }
            }
        });
        Ok(Self { moments, task })
    }

    pub(crate) fn moments(&self) -> Vec<Instant> {
        self.moments.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The name of a pod's Job.
pub(crate) fn job_of(pod: &Pod) -> Option<String> {
    pod.metadata.labels.as_ref()?.get("batch.kubernetes.io/job-name").cloned()
}

pub(crate) fn is_complete(job: &Job) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Complete" && condition.status == "True")
}

/// Deletes every Job of the namespace and its pods, whoever still wants them.
pub(crate) async fn clear_jobs(client: &Client) -> Result<()> {
    clear::<Job>(client).await?;
    clear::<Pod>(client).await
}

/// Deletes the Leases of dispatchers that were killed, but that of the last: what a crash leaves behind.
pub(crate) async fn clear_leases(client: &Client) -> Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let mut all = leases.list_metadata(&ListParams::default()).await?.items;
    all.retain(|lease| lease.name_any().starts_with("jobquay-member-"));
    all.sort_by_key(|lease| lease.metadata.creation_timestamp.clone());
    all.pop();
    for lease in all {
        unless_gone(leases.delete(&lease.name_any(), &DeleteParams::default()).await)?;
    }
    Ok(())
}

async fn clear<K>(client: &Client) -> Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + fmt::Debug + DeserializeOwned,
{
    let objects: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    loop {
        let page = objects.list_metadata(&ListParams::default().limit(500)).await?.items;
        if page.is_empty() {
            return Ok(());
        }
        let names = page.into_iter().filter_map(|object| object.metadata.name).map(Ok::<_, kube::Error>);
        stream::iter(names).try_for_each_concurrent(32, |name| remove(objects.clone(), name)).await?;
    }
}

/// Takes off every finalizer, and deletes.
async fn remove<K: Clone + fmt::Debug + DeserializeOwned>(objects: Api<K>, name: String) -> kube::Result<()> {
    let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    unless_gone(objects.patch_metadata(&name, &PatchParams::default(), &bare).await)?;
    unless_gone(objects.delete(&name, &DeleteParams::background().grace_period(0)).await)
}

fn unless_gone<T>(done: kube::Result<T>) -> kube::Result<()> {
    match done {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        done => done.map(drop),
    }
}
