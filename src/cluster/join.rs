//! The one task that adds waiters to Jobs.
//!
//! Those who want to join the same Job while a patch to it is under way go into the next patch
//! together: a thousand equal requests cost a handful of writes.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tracing::debug;

use super::marks::{bring_together, new_mark};
use super::{Clients, Error, call};
use crate::backoff::Backoff;
use crate::crash;
use crate::domain::job::{self, Load, MAX_WAITERS};
use crate::domain::manifest::{JOB_FINALIZER, Plan, encode_waiter, waiter_annotation};
use crate::domain::waiter::Waiter;
use crate::telemetry::chain;

/// How many may wait for their patch.
const WAITING: usize = 1024;
/// Additions in one patch; a larger one keeps the API server from others for longer.
const BATCH: usize = MAX_WAITERS / 4;
/// How often a patch is tried that meets other writers, over about a second.
const CONTENDED: u32 = 10;

/// What a patch came to, for everyone in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinVerdict {
    /// With what the waiters weigh now.
    Joined(Load),
    /// The Job is not what it was: it has been released, replaced or changed. Start over.
    Moved,
    /// No answer came; the next look at the Job tells whether it took effect.
    Undecided,
    /// No more waiters fit on it.
    Full,
}

/// The Job as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub(super) finalizer_index: usize,
}

impl Target {
    pub(super) fn of(plan: &Plan, uid: String, finalizer_index: usize) -> Self {
        Self { namespace: plan.namespace.clone(), name: plan.name(), uid, finalizer_index }
    }
}

/// Hands additions to the joining task.
#[derive(Debug, Clone)]
pub struct Joiner(mpsc::Sender<Pending>);

#[derive(Debug)]
struct Pending {
    target: Target,
    load: Load,
    addition: Addition,
    verdict: oneshot::Sender<Result<JoinVerdict, Error>>,
}

#[derive(Debug)]
enum Addition {
    /// As it is to stand on the Job.
    Waiter { annotation: String, value: String },
    /// The overflow queue has one more.
    Overflow,
}

/// A Job with a patch under way, and who came meanwhile.
struct Queue {
    load: Load,
    waiting: Vec<Pending>,
}

/// A patch that has ended: its Job, and what the waiters on it weigh now, where that is known.
struct Patched {
    target: Target,
    load: Option<Load>,
}

impl Joiner {
    pub(super) async fn join(&self, target: Target, load: Load, waiter: &Waiter) -> Result<JoinVerdict, Error> {
        let addition = Addition::Waiter { annotation: waiter_annotation(waiter), value: encode_waiter(waiter) };
        self.add(target, load, addition).await
    }

    pub(super) async fn mark_overflow(&self, target: Target) -> Result<JoinVerdict, Error> {
        self.add(target, Load::FULL, Addition::Overflow).await
    }

    async fn add(&self, target: Target, load: Load, addition: Addition) -> Result<JoinVerdict, Error> {
        let (verdict, received) = oneshot::channel();
        self.0.send(Pending { target, load, addition, verdict }).await.map_err(|_| Error::Ended)?;
        received.await.map_err(|_| Error::Ended)?
    }
}

/// The handle and its task; the task ends when all handles are gone.
pub fn joiner(clients: &Clients, call_timeout: Duration) -> (Joiner, impl Future<Output = ()> + use<>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Joiner(sender), run(clients.write.clone(), call_timeout, receiver))
}

async fn run(client: Client, call_timeout: Duration, mut receiver: mpsc::Receiver<Pending>) {
    let mut queues: HashMap<Target, Queue> = HashMap::new();
    let mut patches = FuturesUnordered::new();
    loop {
        let target = tokio::select! {
            pending = receiver.recv() => {
                let Some(pending) = pending else { break };
                let target = pending.target.clone();
                if let Some(queue) = queues.get_mut(&target) {
                    queue.waiting.push(pending);
                    continue;
                }
                queues.insert(target.clone(), Queue { load: pending.load, waiting: vec![pending] });
                target
            }
            Some(patched) = patches.next() => {
                let Patched { target, load } = patched;
                if let (Some(queue), Some(load)) = (queues.get_mut(&target), load) {
                    queue.load = load;
                }
                target
            }
        };
        match queues.get_mut(&target).map(next_batch) {
            Some(batch) if !batch.is_empty() => patches.push(patch(&client, call_timeout, target, batch)),
            _ => drop(queues.remove(&target)),
        }
    }
    while patches.next().await.is_some() {}
}

/// Those who go into the next patch. Where a Job is full, its waiters are told so at once.
fn next_batch(queue: &mut Queue) -> Vec<Pending> {
    let mut load = queue.load;
    let mut batch = Vec::new();
    let mut rest = Vec::new();
    for pending in queue.waiting.drain(..) {
        match &pending.addition {
            Addition::Overflow => batch.push(pending),
            Addition::Waiter { .. } if load.room() == 0 => {
                // Who has gone comes again.
                let _ = pending.verdict.send(Ok(JoinVerdict::Full));
            }
            Addition::Waiter { .. } if batch.len() >= BATCH => rest.push(pending),
            Addition::Waiter { annotation, value } => {
                load = load.with(annotation, value);
                batch.push(pending);
            }
        }
    }
    queue.waiting = rest;
    batch
}

/// Adds a batch in one JSON patch, which applies whole or not at all: only to this very Job, and only
/// while it owes answers. Without that test a waiter could be added after the answers went out.
async fn patch(client: &Client, call_timeout: Duration, target: Target, batch: Vec<Pending>) -> Patched {
    let jobs = Api::<Job>::namespaced(client.clone(), &target.namespace);
    let mut operations = vec![
        json!({"op": "test", "path": "/metadata/uid", "value": target.uid}),
        json!({"op": "test", "path": format!("/metadata/finalizers/{}", target.finalizer_index), "value": JOB_FINALIZER}),
    ];
    let mut add = |annotation: &str, value: String| {
        let path = format!("/metadata/annotations/{}", annotation.replace('/', "~1"));
        operations.push(json!({"op": "add", "path": path, "value": value}));
    };
    for pending in &batch {
        if let Addition::Waiter { annotation, value } = &pending.addition {
            add(annotation, value.clone());
        }
    }
    let overflowed = batch.iter().filter(|pending| matches!(pending.addition, Addition::Overflow)).count();
    if overflowed > 0 {
        add(&new_mark(), overflowed.to_string());
    }
    let operations = serde_json::from_value(json!(operations)).expect("these are JSON patch operations");
    let patch = Patch::<()>::Json(operations);
    let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(200));
    let patched = loop {
        let patched = call("join a Job", call_timeout, jobs.patch(&target.name, &PatchParams::default(), &patch)).await;
        match &patched {
            // Others wrote at the same time. What the patch depends on it tests itself.
            Err(error) if error.is_conflict() && backoff.tries() < CONTENDED => backoff.wait().await,
            _ => break patched,
        }
    };
    if let Err(error) = &patched {
        debug!(job.name = target.name, error = chain(error), additions = batch.len(), "a patch to join did not apply");
    }
    crash::point("waiter-saved");
    let load = patched.as_ref().map(job::load);
    for pending in batch {
        // Who has gone comes again.
        let _ = pending.verdict.send(match &load {
            Ok(load) => Ok(JoinVerdict::Joined(*load)),
            Err(error) => failed(error),
        });
    }
    if let Ok(job) = &patched {
        bring_together(&jobs, job, call_timeout).await;
    }
    Patched { target, load: load.ok() }
}

fn failed(error: &Error) -> Result<JoinVerdict, Error> {
    if error.is_conflict() || error.is_unfit() || error.is_not_found() {
        return Ok(JoinVerdict::Moved);
    }
    if error.is_undecided() {
        return Ok(JoinVerdict::Undecided);
    }
    Err(error.again())
}
