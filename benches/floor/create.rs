//! F2: a bare loop that creates Jobs, so many at once. A process of its own.

use std::path::PathBuf;

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::PostParams;

use crate::stack::Stack;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Create {
    #[arg(long)]
    count: usize,
    /// Calls in flight.
    #[arg(long, default_value_t = 32)]
    concurrency: usize,
    /// A Job in JSON; each gets a name of its own.
    #[arg(long)]
    manifest: PathBuf,
}

impl Create {
    /// Creates all, then waits to be killed, so that what it took can be read.
    pub(crate) async fn run(self) -> Result<()> {
        let client = crate::cluster::client(&Stack::find()?).await?;
        let jobs: Api<Job> = Api::namespaced(client, "work");
        let job: Job = serde_json::from_slice(&std::fs::read(&self.manifest)?)?;
        let numbers = stream::iter(0..self.count).map(Ok::<_, anyhow::Error>);
        numbers
            .try_for_each_concurrent(self.concurrency, |number| {
                let (jobs, mut job) = (jobs.clone(), job.clone());
                async move {
                    job.metadata.name = Some(format!("floor-{number}"));
                    jobs.create(&PostParams::default(), &job).await.context("a create")?;
                    Ok(())
                }
            })
            .await?;
        std::future::pending().await
    }
}
