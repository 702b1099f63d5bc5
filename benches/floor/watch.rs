//! F3: a bare watch. It publishes a message, confirmed, for each Job that it sees complete. A process of its own.

use std::collections::HashSet;

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};

use crate::cluster::{self, NAMESPACE};
use crate::stack::Stack;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Watch {
    /// Where it publishes to.
    #[arg(long)]
    replies: String,
    /// Of each message's body.
    #[arg(long, default_value_t = 1000)]
    bytes: usize,
}

impl Watch {
    /// Until it is killed. The correlation id of each message is the Job's name.
    pub(crate) async fn run(self) -> Result<()> {
        let stack = Stack::find()?;
        let jobs: Api<Job> = Api::namespaced(cluster::client(&stack).await?, NAMESPACE);
        let connection = Connection::connect(stack.amqp(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let body = vec![b'x'; self.bytes];
        let mut told = HashSet::new();
        let mut seen = std::pin::pin!(watcher(jobs, watcher::Config::default()).default_backoff().applied_objects());
        while let Some(job) = seen.try_next().await? {
            let name = job.metadata.name.clone().context("a Job without a name")?;
            if !cluster::is_complete(&job) || !told.insert(name.clone()) {
                continue;
            }
            let properties = BasicProperties::default().with_delivery_mode(2).with_correlation_id(name.as_str().into());
            let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
            let replies = self.replies.as_str();
            channel.basic_publish("".into(), replies.into(), mandatory, &body, properties).await?.await?;
        }
        Ok(())
    }
}
