//! Requests whose Jobs are made and never begin, and such a Job for the floors to make.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::broker::{Broker, Message, QueueType};
use crate::cached::request;
use crate::cluster::NAMESPACE;
use crate::contender::Running;
use crate::contenders::{Dispatcher, REQUESTS};
use crate::stack::Stack;

const PATIENCE: Duration = Duration::from_secs(60);

/// The request of a number; each needs a Job of its own.
pub(crate) fn held(number: usize) -> Message {
    request("held", number, 500)
}

/// A Job as the dispatcher makes it, for the floor to make the same.
pub(crate) async fn manifest(stack: &Stack, broker: &Broker, client: &Client) -> Result<PathBuf> {
    broker.renew(REQUESTS, QueueType::Quorum).await?;
    let running = Running::start(Dispatcher::of(stack).command(), &stack.dir.join("log/prepare.log"))?;
    broker.send(REQUESTS, held(0)).await?;
    let jobs: Api<Job> = Api::namespaced(client.clone(), NAMESPACE);
    let begun = Instant::now();
    let mut job = loop {
        if let Some(job) = jobs.list(&ListParams::default()).await?.items.pop() {
            break job;
        }
        ensure!(begun.elapsed() < PATIENCE, "the dispatcher has made no Job");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    drop(running);
    let metadata = std::mem::take(&mut job.metadata);
    job.metadata.labels = metadata.labels;
    job.metadata.annotations = metadata.annotations;
    job.metadata.finalizers = metadata.finalizers;
    job.status = None;
    let spec = job.spec.as_mut().context("a Job has a specification")?;
    // The API server's own.
    spec.selector = None;
    spec.template.metadata = None;
    let path = stack.dir.join("manifest.json");
    std::fs::write(&path, serde_json::to_vec(&job)?)?;
    Ok(path)
}
