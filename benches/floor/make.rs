//! The least between a request and its Job: consume, GET, create. A process of its own.

use std::path::PathBuf;

use anyhow::{Context, Result};
use futures_util::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::PostParams;
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};

use crate::cluster::{self, NAMESPACE};
use crate::stack::Stack;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Make {
    #[arg(long)]
    queue: String,
    /// A Job in JSON; each gets a name of its own.
    #[arg(long)]
    manifest: PathBuf,
}

impl Make {
    /// One Job a message, one after the other, until it is killed.
    pub(crate) async fn run(self) -> Result<()> {
        let stack = Stack::find()?;
        let jobs: Api<Job> = Api::namespaced(cluster::client(&stack).await?, NAMESPACE);
        let job: Job = serde_json::from_slice(&std::fs::read(&self.manifest)?)?;
        let mut cache = redis::Client::open(stack.redis())?.get_multiplexed_async_connection().await?;
        let connection = Connection::connect(stack.amqp(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let mut deliveries = channel
            .basic_consume(self.queue.as_str().into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await?;
        // Connections that were never used are not yet there.
        jobs.list_metadata(&kube::api::ListParams::default().limit(1)).await?;
        while let Some(delivery) = deliveries.next().await {
            let delivery = delivery?;
            let id = delivery.properties.message_id().as_ref().context("a message without an id")?.to_string();
            redis::cmd("GET").arg(&id).query_async::<Option<Vec<u8>>>(&mut cache).await?;
            let mut job = job.clone();
            job.metadata.name = Some(format!("floor-{id}"));
            jobs.create(&PostParams::default(), &job).await?;
            delivery.ack(BasicAckOptions::default()).await?;
        }
        Ok(())
    }
}
