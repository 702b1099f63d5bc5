//! A message in hand. It is settled once, by value, so that settling it twice does not compile.

use jiff::Timestamp;
use lapin::Acker;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{CALL_TIMEOUT, call, pending};
use crate::domain::request::Arrival;
use crate::telemetry::chain;

/// Where a delivery came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Requests,
    /// The pending queue of a lane, into which jobquay has put it.
    Lane,
    /// A pending queue, into which somebody else has put it.
    Intruder,
    /// The queue of what was delivered too often.
    Poison,
}

/// One delivery of one session.
#[derive(Debug)]
#[must_use = "an unsettled delivery stays with this consumer until the session ends"]
pub struct Delivery {
    pub arrival: Arrival,
    pub origin: Origin,
    /// Larger than that of every delivery before it.
    pub order: u64,
    acker: Acker,
    /// Cancelled when settling fails: the session is dead then, whether or not it has noticed.
    session: CancellationToken,
}

impl Delivery {
    pub(super) fn of_requests(mut delivery: lapin::message::Delivery, order: u64, session: CancellationToken) -> Self {
        Self { arrival: arrival(&mut delivery), origin: Origin::Requests, order, acker: delivery.acker, session }
    }

    /// `own_user` is whose messages count in a lane.
    pub(super) fn of_lane(
        mut delivery: lapin::message::Delivery,
        order: u64,
        own_user: &str,
        session: CancellationToken,
    ) -> Self {
        let mut arrival = arrival(&mut delivery);
        let ours = pending::unpark(&mut arrival, delivery.properties.headers().as_ref(), own_user);
        let origin = if ours { Origin::Lane } else { Origin::Intruder };
        Self { arrival, origin, order, acker: delivery.acker, session }
    }

    pub(super) fn of_poison(mut delivery: lapin::message::Delivery, session: CancellationToken) -> Self {
        Self { arrival: arrival(&mut delivery), origin: Origin::Poison, order: 0, acker: delivery.acker, session }
    }

    /// Tells the broker that the request is safe elsewhere. A failure is no loss: the broker delivers
    /// the request again, and whatever was done for it is found.
    pub async fn ack(self) {
        let acked = call("acknowledge", CALL_TIMEOUT, self.acker.ack(BasicAckOptions::default())).await;
        self.end_session_unless(acked);
    }

    /// Hands the request back. With nack, not reject: newer brokers count only a reject as a failure.
    pub async fn requeue(self) {
        let options = BasicNackOptions { requeue: true, multiple: false };
        let requeued = call("hand back", CALL_TIMEOUT, self.acker.nack(options)).await;
        self.end_session_unless(requeued);
    }

    fn end_session_unless(self, settled: Result<bool, super::Error>) {
        match settled {
            Ok(true) => {}
            // The session this delivery came from is over; the broker has the request already.
            Ok(false) => debug!("settled too late, the session was over"),
            Err(error) => {
                debug!(error = chain(&error), "settling failed");
                self.session.cancel();
            }
        }
    }
}

fn arrival(delivery: &mut lapin::message::Delivery) -> Arrival {
    let body = std::mem::take(&mut delivery.data);
    let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
    let properties = &delivery.properties;
    let header = |name: &str| header(properties.headers().as_ref()?, name);
    Arrival {
        content_type: text(properties.content_type()),
        content_encoding: text(properties.content_encoding()),
        message_id: text(properties.message_id()).filter(|id| !id.is_empty()),
        reply_to: text(properties.reply_to()).filter(|queue| !queue.is_empty()),
        correlation_id: text(properties.correlation_id()),
        user_id: text(properties.user_id()),
        traceparent: header("traceparent"),
        tracestate: header("tracestate"),
        redelivered: delivery.redelivered,
        parked: false,
        in_doubt: false,
        received_at: Timestamp::now(),
        minted_id: uuid::Uuid::now_v7().to_string(),
        body,
    }
}

/// A header that is text, in either of AMQP's two kinds of it.
pub(super) fn header(headers: &FieldTable, name: &str) -> Option<String> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(value) => String::from_utf8(value.as_bytes().to_vec()).ok(),
        AMQPValue::ShortString(value) => Some(value.as_str().to_owned()),
        _ => None,
    }
}
