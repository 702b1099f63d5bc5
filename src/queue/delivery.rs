//! A message in hand. It is settled once, by value, so that settling it twice does not compile.

use jiff::Timestamp;
use lapin::Acker;
use lapin::types::{AMQPValue, FieldTable};

use super::acks::Ledger;
use super::pending;
use crate::domain::request::{Arrival, MessageId};

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
    /// When its request came. One that came later than now, by a clock that was ahead, would wait behind all that come
    /// before that.
    pub since: Timestamp,
    /// Larger than that of every delivery before it.
    pub order: u64,
    tag: u64,
    acker: Acker,
    ledger: Ledger,
}

impl Delivery {
    pub(super) fn of_requests(mut delivery: lapin::message::Delivery, order: u64, ledger: Ledger) -> Self {
        Self::of(arrival(&mut delivery), Origin::Requests, order, delivery, ledger)
    }

    /// `own_user` is whose messages count in a lane.
    pub(super) fn of_lane(mut delivery: lapin::message::Delivery, order: u64, own_user: &str, ledger: Ledger) -> Self {
        let mut arrival = arrival(&mut delivery);
        let ours = pending::unpark(&mut arrival, delivery.properties.headers().as_ref(), own_user);
        let origin = if ours { Origin::Lane } else { Origin::Intruder };
        Self::of(arrival, origin, order, delivery, ledger)
    }

    pub(super) fn of_poison(mut delivery: lapin::message::Delivery, ledger: Ledger) -> Self {
        Self::of(arrival(&mut delivery), Origin::Poison, 0, delivery, ledger)
    }

    fn of(arrival: Arrival, origin: Origin, order: u64, delivery: lapin::message::Delivery, ledger: Ledger) -> Self {
        ledger.taken(delivery.delivery_tag);
        let since = arrival.received_at.min(Timestamp::now());
        Self { arrival, origin, since, order, tag: delivery.delivery_tag, acker: delivery.acker, ledger }
    }

    /// Tells the broker that the request is safe elsewhere.
    pub fn ack(self) {
        self.ledger.done(self.tag, self.acker);
    }

    /// Hands the request back.
    pub fn requeue(self) {
        self.ledger.hand_back(self.tag, self.acker);
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
        id: match text(properties.message_id()).filter(|id| !id.is_empty()) {
            Some(id) => MessageId::Given(id),
            None => MessageId::Minted(uuid::Uuid::now_v7().to_string()),
        },
        reply_to: text(properties.reply_to()).filter(|queue| !queue.is_empty()),
        correlation_id: text(properties.correlation_id()),
        user_id: text(properties.user_id()),
        traceparent: header("traceparent"),
        tracestate: header("tracestate"),
        redelivered: delivery.redelivered,
        parked: false,
        in_doubt: false,
        undecided: None,
        unanswered: None,
        received_at: Timestamp::now(),
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
