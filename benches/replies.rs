//! Answers as they come: which, and when.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use tokio::task::JoinHandle;

/// A consumer of one queue, which notes when each message came, under a name that it has.
pub(crate) struct Replies {
    came: Arc<Mutex<HashMap<String, Instant>>>,
    task: JoinHandle<()>,
    _connection: Connection,
}

impl Replies {
    /// Messages for which `name` says nothing are left out; of one name the first counts.
    pub(crate) async fn follow(
        url: &str,
        queue: &str,
        name: impl Fn(&Delivery) -> Option<String> + Send + 'static,
    ) -> Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let mut deliveries = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
        let came = Arc::<Mutex<HashMap<_, _>>>::default();
        let noted = Arc::clone(&came);
        let task = tokio::spawn(async move {
            // Kept, for a channel ends with its last handle.
            let _channel = channel;
            while let Some(Ok(delivery)) = deliveries.next().await {
                let now = Instant::now();
                if let Some(name) = name(&delivery) {
                    noted.lock().expect("nobody panics with it").entry(name).or_insert(now);
                }
            }
        });
        Ok(Self { came, task, _connection: connection })
    }

    pub(crate) fn at(&self, name: &str) -> Option<Instant> {
        self.came.lock().expect("nobody panics with it").get(name).copied()
    }

    pub(crate) fn count(&self) -> usize {
        self.came.lock().expect("nobody panics with it").len()
    }

    /// Waits until so many have come.
    pub(crate) async fn reach(&self, count: usize, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        while self.count() < count {
            if begun.elapsed() > limit {
                bail!("only {} of {count} answers have come within {limit:?}", self.count());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The correlation id, which is that of the request.
pub(crate) fn correlation_id(delivery: &Delivery) -> Option<String> {
    delivery.properties.correlation_id().as_ref().map(ToString::to_string)
}
