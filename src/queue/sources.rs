//! The queues that one session consumes: requests, and the pending queue of each lane. Every queue has a
//! channel of its own, so that what waits in a full lane takes nothing from the requests' prefetch.

use futures_util::stream::{BoxStream, SelectAll, once, select_all};
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection};

use super::acks::{Acknowledger, Ledger, ledger};
use super::{CALL_TIMEOUT, Delivery, Error, REQUESTS, call, pending_queue, short};

/// Requests of one lane that wait in hand; those that are held up by a limit of their own let others pass.
pub const LANE_PREFETCH: u16 = 64;

/// What is worth taking at once: more wakes nobody less often.
const HANDFUL: usize = 128;

/// Open consumers, and what they bring. What becomes of that is told to the broker by their acknowledgers.
pub(super) struct Sources {
    consumers: Vec<(Channel, ShortString)>,
    deliveries: SelectAll<BoxStream<'static, Result<Source, Error>>>,
    own_user: String,
    order: u64,
}

enum Source {
    Requests(lapin::message::Delivery, Ledger),
    Lane(lapin::message::Delivery, Ledger),
    /// The queue's consumer is at its end.
    Ended(String),
}

impl Sources {
    pub(super) async fn open(
        connection: &Connection,
        prefetch: u16,
        lanes: &[String],
        own_user: String,
    ) -> Result<(Self, Vec<Acknowledger>), Error> {
        let mut sources = Self { consumers: Vec::new(), deliveries: select_all([]), own_user, order: 0 };
        let mut acknowledgers = Vec::new();
        acknowledgers.push(sources.add(connection, REQUESTS.to_owned(), prefetch, Source::Requests).await?);
        for lane in lanes {
            acknowledgers.push(sources.add(connection, pending_queue(lane), LANE_PREFETCH, Source::Lane).await?);
        }
        Ok((sources, acknowledgers))
    }

    async fn add(
        &mut self,
        connection: &Connection,
        queue: String,
        prefetch: u16,
        source: fn(lapin::message::Delivery, Ledger) -> Source,
    ) -> Result<Acknowledger, Error> {
        let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
        call("set the prefetch", CALL_TIMEOUT, channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
        let consumed =
            channel.basic_consume(short(&queue)?, short("")?, BasicConsumeOptions::default(), FieldTable::default());
        let consumer = call("consume", CALL_TIMEOUT, consumed).await?;
        self.consumers.push((channel, consumer.tag()));
        let failed = |source| Error::Amqp { action: "consume", source };
        let (ledger, acknowledger) = ledger();
        let brought =
            consumer.map(move |delivery| delivery.map(|delivery| source(delivery, ledger.clone())).map_err(failed));
        self.deliveries.push(brought.chain(once(async { Ok(Source::Ended(queue)) })).boxed());
        Ok(acknowledger)
    }

    /// The next delivery of any queue. An error is the end of the session: also a consumer that the
    /// broker has ended unasked. Cancel safe.
    async fn next(&mut self) -> Result<Delivery, Error> {
        match self.deliveries.next().await {
            Some(Ok(Source::Ended(queue))) => Err(Error::Cancelled(queue)),
            Some(Ok(source)) => Ok(self.delivery(source).expect("an end was told above")),
            Some(Err(error)) => Err(error),
            None => Err(Error::Cancelled(REQUESTS.to_owned())),
        }
    }

    /// The next delivery, and others that are there already: at most [`HANDFUL`]. Fails as [`Self::next`] does. Cancel safe.
    pub(super) async fn next_handful(&mut self) -> Result<Vec<Delivery>, Error> {
        let mut handful = vec![self.next().await?];
        while handful.len() < HANDFUL {
            // What is in hand when another fails comes again, as everything of a session that ends.
            let Some(next) = self.next().now_or_never() else { break };
            handful.push(next?);
        }
        Ok(handful)
    }

    /// Takes nothing more and hands back what was not begun; returns how many that were.
    pub(super) async fn close(mut self) -> Result<usize, Error> {
        for (channel, tag) in &self.consumers {
            let cancelled = channel.basic_cancel(tag.clone(), BasicCancelOptions::default());
            call("cancel a consumer", CALL_TIMEOUT, cancelled).await?;
        }
        let mut handed_back = 0;
        while let Some(source) = self.deliveries.next().await {
            if let Some(delivery) = self.delivery(source?) {
                delivery.requeue();
                handed_back += 1;
            }
        }
        Ok(handed_back)
    }

    fn delivery(&mut self, source: Source) -> Option<Delivery> {
        self.order += 1;
        match source {
            Source::Requests(delivery, ledger) => Some(Delivery::of_requests(delivery, self.order, ledger)),
            Source::Lane(delivery, ledger) => Some(Delivery::of_lane(delivery, self.order, &self.own_user, ledger)),
            Source::Ended(_) => None,
        }
    }
}
