//! The one task that adds waiters to Jobs.
//!
//! Those who want to join the same Job while a patch to it is under way go into the next patch
//! together: a thousand equal requests cost a handful of writes.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::{Clients, Error, call};
use crate::domain::job::MAX_WAITERS;
use crate::domain::manifest::{JOB_FINALIZER, encode_waiter, waiter_annotation};
use crate::domain::waiter::Waiter;

/// How many may wait for their patch.
const WAITING: usize = 1024;
/// Waiters in one patch; more would make it larger than the API server takes in one step.
const BATCH: usize = MAX_WAITERS / 4;

/// What a patch came to, for everyone in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinVerdict {
    Joined,
    /// The Job is not what it was: it has been released, replaced or changed. Start over.
    Moved,
}

/// Hands waiters to the joining task.
#[derive(Debug, Clone)]
pub struct Joiner(mpsc::Sender<Pending>);

#[derive(Debug)]
struct Pending {
    target: Target,
    waiter: Waiter,
    verdict: oneshot::Sender<Result<JoinVerdict, Error>>,
}

/// The Job as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Target {
    name: String,
    uid: String,
    finalizer_index: usize,
}

impl Joiner {
    pub(super) async fn join(
        &self,
        name: String,
        uid: String,
        finalizer_index: usize,
        waiter: Waiter,
    ) -> Result<JoinVerdict, Error> {
        let (verdict, received) = oneshot::channel();
        let target = Target { name, uid, finalizer_index };
        self.0.send(Pending { target, waiter, verdict }).await.map_err(|_| Error::Ended)?;
        received.await.map_err(|_| Error::Ended)?
    }
}

/// The handle and its task; the task ends when all handles are gone.
pub fn joiner(clients: &Clients, call_timeout: Duration) -> (Joiner, impl Future<Output = ()> + use<>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let jobs = Api::namespaced(clients.write.clone(), &clients.namespace);
    (Joiner(sender), run(jobs, call_timeout, receiver))
}

async fn run(jobs: Api<Job>, call_timeout: Duration, mut receiver: mpsc::Receiver<Pending>) {
    // A target with a patch under way has an entry, which collects those who come meanwhile.
    let mut queues: HashMap<Target, Vec<Pending>> = HashMap::new();
    let mut patches = FuturesUnordered::new();
    loop {
        tokio::select! {
            pending = receiver.recv() => {
                let Some(pending) = pending else { break };
                let target = pending.target.clone();
                match queues.get_mut(&target) {
                    Some(queue) => queue.push(pending),
                    None => {
                        queues.insert(target.clone(), Vec::new());
                        patches.push(patch(&jobs, call_timeout, target, vec![pending]));
                    }
                }
            }
            Some(target) = patches.next() => {
                let queue = queues.remove(&target).unwrap_or_default();
                if !queue.is_empty() {
                    let mut batch = queue;
                    let rest = batch.split_off(batch.len().min(BATCH));
                    queues.insert(target.clone(), rest);
                    patches.push(patch(&jobs, call_timeout, target, batch));
                }
            }
        }
    }
    while patches.next().await.is_some() {}
}

/// Adds a batch in one JSON patch, which applies whole or not at all: only to this very Job, and only
/// while it owes answers. Without that test a waiter could be added after the answers went out.
async fn patch(jobs: &Api<Job>, call_timeout: Duration, target: Target, batch: Vec<Pending>) -> Target {
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": target.uid}),
        json!({"op": "test", "path": format!("/metadata/finalizers/{}", target.finalizer_index), "value": JOB_FINALIZER}),
    ];
    operations.extend(batch.iter().map(|pending| {
        let annotation = waiter_annotation(&pending.waiter).replace('/', "~1");
        json!({"op": "add", "path": format!("/metadata/annotations/{annotation}"), "value": encode_waiter(&pending.waiter)})
    }));
    let operations = serde_json::from_value(json!(operations)).expect("these are JSON patch operations");
    let patched = call(
        "join a Job",
        call_timeout,
        jobs.patch(&target.name, &PatchParams::default(), &Patch::<()>::Json(operations)),
    )
    .await;
    let verdict = match patched {
        Ok(_) => Ok(JoinVerdict::Joined),
        Err(error) if error.is_outdated() || error.is_not_found() => Ok(JoinVerdict::Moved),
        // Whether or not it took effect, the next look at the Job tells.
        Err(error) if error.is_undecided() => Ok(JoinVerdict::Moved),
        Err(error) => Err(error),
    };
    let failure = verdict.as_ref().err().and_then(Error::status).cloned();
    for pending in batch {
        let shared = match &failure {
            Some(status) => {
                Err(Error::Api { action: "join a Job", source: Box::new(kube::Error::Api(Box::new(status.clone()))) })
            }
            None => Ok(*verdict.as_ref().unwrap_or(&JoinVerdict::Moved)),
        };
        // Who has gone comes again.
        let _ = pending.verdict.send(shared);
    }
    target
}
