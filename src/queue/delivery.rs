//! A message in hand. It is settled once, by value, so that settling it twice does not compile.

use jiff::Timestamp;
use lapin::Acker;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use lapin::types::AMQPValue;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{CALL_TIMEOUT, call};
use crate::domain::request::Arrival;
use crate::telemetry::chain;

/// One delivery of one session.
#[derive(Debug)]
#[must_use = "an unsettled delivery stays with this consumer until the session ends"]
pub struct Delivery {
    pub arrival: Arrival,
    acker: Acker,
    /// Cancelled when settling fails: the session is dead then, whether or not it has noticed.
    session: CancellationToken,
}

impl Delivery {
    pub(super) fn new(delivery: lapin::message::Delivery, session: CancellationToken) -> Self {
        let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
        let properties = &delivery.properties;
        let header = |name: &str| match properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(value) => String::from_utf8(value.as_bytes().to_vec()).ok(),
            AMQPValue::ShortString(value) => Some(value.as_str().to_owned()),
            _ => None,
        };
        let arrival = Arrival {
            content_type: text(properties.content_type()),
            content_encoding: text(properties.content_encoding()),
            message_id: text(properties.message_id()).filter(|id| !id.is_empty()),
            reply_to: text(properties.reply_to()).filter(|queue| !queue.is_empty()),
            correlation_id: text(properties.correlation_id()),
            user_id: text(properties.user_id()),
            traceparent: header("traceparent"),
            tracestate: header("tracestate"),
            redelivered: delivery.redelivered,
            received_at: Timestamp::now(),
            minted_id: uuid::Uuid::now_v7().to_string(),
            body: delivery.data,
        };
        Self { arrival, acker: delivery.acker, session }
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
