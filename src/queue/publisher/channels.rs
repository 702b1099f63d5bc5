//! A channel and those that take its place: batch after batch, while some of which the broker does not say all soon wait on
//! the channel that they were written on, and hold up none behind them.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::stream::{self, FuturesUnordered, StreamExt};
use lapin::{Channel, Connection};
use tokio::sync::{Mutex, mpsc};

use super::batch::{self, Batch};
use super::heard::Heard;
use super::link::Alarm;
use super::under_way::{Numbered, UnderWay};
use super::{Pending, Receipt};
use crate::queue::Error;
use crate::telemetry::metrics::Metrics;

/// More in one batch gives no more throughput.
pub(super) const BATCH: usize = 128;
/// Longer than a broker takes that works, also on a slow disk.
const SOON: Duration = Duration::from_secs(1);
/// How often a batch is looked at after that.
const TICK: Duration = Duration::from_millis(100);
/// So many batches of one channel may wait at once.
const WAITING: usize = 8;
/// Of so many queues what a session has left is published at once.
const LEFT: usize = 128;

/// What the channels of one session share.
pub(super) struct Channels<'a> {
    pub(super) connection: &'a Connection,
    pub(super) under_way: &'a UnderWay,
    pub(super) alarm: Alarm,
    pub(super) heard: Heard,
    pub(super) confirm_timeout: Duration,
    pub(super) metrics: &'a Metrics,
}

impl Channels<'_> {
    /// Batch after batch, until nothing more comes.
    pub(super) async fn work(
        &self,
        mut channel: Channel,
        receiver: &Mutex<mpsc::Receiver<Vec<Pending>>>,
    ) -> Result<(), Error> {
        let mut waiting = FuturesUnordered::new();
        loop {
            tokio::select! {
                batch = gather(receiver, self.under_way), if waiting.len() < WAITING => {
                    let Some(batch) = batch else { break };
                    let batch = self.begin(&channel, batch).await?;
                    if !batch.is_settled() {
                        let next = self.open().await?;
                        waiting.push(self.see_through(std::mem::replace(&mut channel, next), batch));
                    }
                }
                Some(ended) = waiting.next() => ended?,
            }
        }
        while let Some(ended) = waiting.next().await {
            ended?;
        }
        Ok(())
    }

    /// The same, for messages to queues of which nothing was said: each queue's are on a channel of their own, since a
    /// broker may not confirm what it gets on a channel after a message to one that is silent.
    pub(super) async fn work_apart(&self, receiver: &Mutex<mpsc::Receiver<Vec<Pending>>>) -> Result<(), Error> {
        let mut waiting = FuturesUnordered::new();
        loop {
            tokio::select! {
                batch = gather(receiver, self.under_way), if waiting.len() < WAITING => {
                    let Some(batch) = batch else { break };
                    waiting.extend(by_queue(batch).map(|some| self.publish(some)));
                }
                Some(ended) = waiting.next() => { ended?; }
            }
        }
        while let Some(ended) = waiting.next().await {
            ended?;
        }
        Ok(())
    }

    /// Those of each queue on a channel of their own.
    pub(super) async fn publish_by_queue(&self, messages: Vec<Numbered>) -> Result<(), Error> {
        let mut publishing = stream::iter(by_queue(messages)).map(|some| self.publish(some)).buffer_unordered(LEFT);
        while let Some(ended) = publishing.next().await {
            ended?;
        }
        Ok(())
    }

    /// All of them on a channel of their own, to the end; whether the broker has said something of each.
    pub(super) async fn publish(&self, messages: Vec<Numbered>) -> Result<bool, Error> {
        let channel = self.open().await?;
        let batch = self.begin(&channel, messages).await?;
        let rest = self.until_over(batch).await?;
        let all_said = rest.is_settled();
        self.under_way.settle(rest.give_up(), self.metrics);
        Ok(all_said)
    }

    /// Writes a batch, and waits for what is said of it soon.
    async fn begin(&self, channel: &Channel, messages: Vec<Numbered>) -> Result<Batch, Error> {
        let written = tokio::select! {
            written = Batch::write(channel, messages) => written,
            () = self.over() => Err(self.unconfirmed()),
        };
        let mut batch = written?;
        batch.wait(tokio::time::sleep(SOON)).await?;
        self.settle(batch.take_said().await?);
        Ok(batch)
    }

    /// Waits for the rest of a batch. Its channel is of no more use then: it closes itself when it is dropped, and the broker
    /// says nothing to that while its queue is silent.
    async fn see_through(&self, _channel: Channel, batch: Batch) -> Result<(), Error> {
        let rest = self.until_over(batch).await?;
        // Where others are confirmed it is the queue that does not answer, and not the broker.
        if !rest.is_settled() && !self.heard.within(self.confirm_timeout) {
            return Err(self.unconfirmed());
        }
        self.under_way.settle(rest.give_up(), self.metrics);
        Ok(())
    }

    /// What nothing was said of within the limit for a confirm.
    async fn until_over(&self, mut batch: Batch) -> Result<Batch, Error> {
        let mut over = std::pin::pin!(self.over());
        let mut is_over = false;
        while !batch.is_settled() && !is_over {
            is_over = tokio::select! {
                () = &mut over => true,
                () = tokio::time::sleep(TICK) => false,
            };
            self.settle(batch.take_said().await?);
        }
        Ok(batch)
    }

    fn settle(&self, receipts: Vec<(u64, Receipt)>) {
        if receipts.iter().any(|(_, receipt)| *receipt != Receipt::Untakable) {
            self.heard.now();
        }
        self.under_way.settle(receipts, self.metrics);
    }

    /// A channel more; waits where the broker reads nothing.
    async fn open(&self) -> Result<Channel, Error> {
        loop {
            while self.alarm.is_raised() {
                tokio::time::sleep(TICK).await;
            }
            match batch::open(self.connection).await {
                Err(Error::Timeout(..)) if self.alarm.is_raised() => {}
                opened => return opened,
            }
        }
    }

    /// The limit for a confirm. It does not count while the broker is in alarm: it reads nothing and says so, and publishing
    /// again would only double what waits.
    async fn over(&self) {
        tokio::time::sleep(self.confirm_timeout).await;
        while self.alarm.is_raised() {
            tokio::time::sleep(self.confirm_timeout).await;
        }
    }

    fn unconfirmed(&self) -> Error {
        Error::Timeout(self.confirm_timeout, "publish")
    }
}

fn by_queue(messages: Vec<Numbered>) -> impl Iterator<Item = Vec<Numbered>> {
    let mut queues: HashMap<(String, String), Vec<Numbered>> = HashMap::new();
    for numbered in messages {
        let address = (numbered.message.exchange.clone(), numbered.message.routing_key.clone());
        queues.entry(address).or_default().push(numbered);
    }
    queues.into_values()
}

/// Takes what has been handed over, until that is a batch; `None` when nothing more will come. Cancel safe: what was taken is
/// under way.
async fn gather(receiver: &Mutex<mpsc::Receiver<Vec<Pending>>>, under_way: &UnderWay) -> Option<Vec<Numbered>> {
    let mut receiver = receiver.lock().await;
    let mut batch = under_way.take_in(receiver.recv().await?);
    while batch.len() < BATCH
        && let Ok(next) = receiver.try_recv()
    {
        batch.extend(under_way.take_in(next));
    }
    Some(batch)
}
