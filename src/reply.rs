//! Answers on their way out: an event to its reply queue, confirmed and not returned, or to where
//! an operator finds it.

mod exchange;
mod silent;

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tracing::{error, info, warn};

use crate::backoff::Backoff;
use crate::cache::{Entry, result_key};
use crate::crash;
use crate::domain::event::{Event, Reference, ResultView, ServedBy, State, Timings, Verdict};
use crate::domain::key::RequestKey;
use crate::domain::outcome::{Failure, FailureCode, Payload};
use crate::domain::rejection::Rejection;
use crate::domain::request::Arrival;
use crate::domain::waiter::Waiter;
use crate::queue::{DEAD, Error, Message, Publisher, Receipt, UNDELIVERABLE, aside};
use crate::telemetry::metrics::Metrics;
pub use exchange::Exchange;
pub use silent::Silent;

/// The broker's name for a requester that waits on its own channel. Brokers up to 4.0 return such a
/// message although it arrived, later ones never do: it is best effort either way.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to.";
/// A full reply queue gets this many tries, over about half a minute.
const REFUSALS: u32 = 8;
/// So does one of which the broker says nothing, each within `amqp.confirm_timeout`.
const SILENCES: u32 = 3;

/// Why a message is not where it belongs.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error("{0}")]
    Unroutable(String),
    #[error("the queue refused it")]
    Refused,
    #[error("the broker does not say whether the queue has it")]
    Unconfirmed,
    #[error("the broker does not take it")]
    Untakable,
}

/// The way out.
pub struct Replies {
    pub publisher: Publisher,
    pub instance: String,
    /// The topic exchange that gets every event.
    pub exchange: Option<Exchange>,
    pub silent: Silent,
    pub public_url: Option<String>,
    /// In bytes.
    pub inline_max: u64,
    pub metrics: Metrics,
}

impl Replies {
    /// Sends a terminal event and returns when it is safe: confirmed where it belongs, or set aside. Gives back what
    /// the requester was told: a result that is too large for the broker ends in a failure.
    pub async fn send(&self, event: &Event<'_>) -> Result<State, Error> {
        let body: Arc<[u8]> = event.encode(&self.instance, Timestamp::now()).into();
        if let Some(queue) = &event.waiter.reply_to {
            let mandatory = !queue.starts_with(DIRECT_REPLY);
            let message = Message { routing_key: queue.clone(), mandatory, ..message(event, Arc::clone(&body)) };
            let mut backoff = Backoff::for_sessions();
            while let Err(undelivered) = self.reply(&message).await? {
                if let (Undelivered::Untakable, Some((served_by, failure))) = (&undelivered, too_large(event)) {
                    let told = Event { verdict: Verdict::Failed { served_by, failure: &failure }, ..*event };
                    return Box::pin(self.send(&told)).await;
                }
                if Box::pin(self.set_aside(&message, queue, &undelivered.to_string())).await? {
                    break;
                }
                // Its own queue may be there again before that.
                backoff.wait().await;
            }
            crash::point("event-confirmed");
        }
        if let Some(exchange) = &self.exchange {
            Box::pin(exchange.send(&self.publisher, event, body)).await?;
        }
        self.metrics.finished(event.state().as_str(), event.served_by().map_or("", |served_by| served_by.as_str()));
        info!(
            request.id = event.waiter.request_id,
            state = event.state().as_str(),
            served_by = event.served_by().map(|served_by| served_by.as_str()),
            request.key = event.key.map(tracing::field::display),
            job.name = event.job.map(|job| job.name.as_str()),
            "answered"
        );
        Ok(event.state())
    }

    /// Answers with a cached result, as what it is: another Job's, of some age.
    pub async fn send_cached(&self, waiter: &Waiter, template: &str, entry: &Entry) -> Result<State, Error> {
        let reference = self.reference(&entry.key, &entry.payload);
        let view = ResultView {
            payload: &entry.payload,
            age_seconds: entry.age(Timestamp::now()).as_secs(),
            expires_at: Some(entry.expires_at),
            reference: reference.as_ref(),
        };
        let result = (!entry.payload.is_none()).then_some(view);
        let event = Event {
            waiter,
            verdict: Verdict::Succeeded { served_by: ServedBy::Cache, result },
            key: Some(&entry.key),
            template: Some(template),
            job: Some(&entry.job),
            timings: Timings::default(),
        };
        self.send(&event).await
    }

    /// Sends an event that ends nothing, to the exchange, and to a reply queue that wants it. It is not
    /// owed: one that cannot be delivered is not set aside.
    pub async fn announce(&self, event: &Event<'_>) -> Result<(), Error> {
        let asked = event.waiter.reply_to.as_ref().filter(|_| event.waiter.wants_progress);
        if self.exchange.is_none() && asked.is_none() {
            return Ok(());
        }
        let body: Arc<[u8]> = event.encode(&self.instance, Timestamp::now()).into();
        if let Some(queue) = asked {
            let message = Message { routing_key: queue.clone(), mandatory: false, ..message(event, Arc::clone(&body)) };
            self.publisher.publish(message).await?;
        }
        if let Some(exchange) = &self.exchange {
            exchange.send(&self.publisher, event, body).await?;
        }
        Ok(())
    }

    /// Puts a request that can be neither answered nor run where an operator finds it. Returns only
    /// when it is there: the delivery is the last copy. Where the message has no id, it gets the request's, so that it is
    /// the same request when it is sent again.
    pub async fn bury(&self, arrival: &Arrival, request_id: &str, code: &str, why: &str) -> Result<(), Error> {
        let id = arrival.message_id.clone().unwrap_or_else(|| request_id.to_owned());
        // Why may quote what was sent; it stands beside the message, in the dead queue.
        warn!(request.id = id, code, "the request goes to the dead queue");
        let message = Message {
            id,
            exchange: String::new(),
            routing_key: DEAD.to_owned(),
            body: arrival.body.as_slice().into(),
            content_type: arrival.content_type.clone().unwrap_or_default(),
            correlation_id: arrival.correlation_id.clone(),
            reply_to: arrival.reply_to.clone(),
            kind: None,
            user_id: None,
            headers: set_aside_headers(arrival, code, why),
            mandatory: true,
        };
        let mut backoff = Backoff::for_sessions();
        while let Err(reason) = self.deliver(&message).await? {
            error!(queue = DEAD, %reason, "the dead queue does not take messages; `jobquay check` says what is missing");
            backoff.wait().await;
        }
        self.metrics.dead.inc();
        Ok(())
    }

    /// As [`Self::bury`], for a request that was refused.
    pub async fn bury_rejected(&self, arrival: &Arrival, request_id: &str, rejection: &Rejection) -> Result<(), Error> {
        self.bury(arrival, request_id, rejection.code.as_str(), &rejection.message).await
    }

    /// How a result appears in an event: whole, or by reference when it is large.
    pub fn reference(&self, key: &RequestKey, payload: &Payload) -> Option<Reference> {
        let large = payload.bytes.len() as u64 > self.inline_max;
        large.then(|| Reference {
            url: self
                .public_url
                .as_ref()
                .map(|url| format!("{}/api/v1/results/{}", url.trim_end_matches('/'), key.hex())),
            redis_key: result_key(key),
        })
    }

    /// As [`Self::deliver`], but not to a queue that was silent just now.
    async fn reply(&self, message: &Message) -> Result<Result<(), Undelivered>, Error> {
        let queue = message.routing_key.as_str();
        if self.silent.is(queue, Instant::now()) {
            return Ok(Err(Undelivered::Unconfirmed));
        }
        let delivered = self.deliver(message).await?;
        if matches!(delivered, Err(Undelivered::Unconfirmed)) {
            self.silent.found(queue, Instant::now());
        }
        Ok(delivered)
    }

    /// The inner error says why the queue does not take it.
    async fn deliver(&self, message: &Message) -> Result<Result<(), Undelivered>, Error> {
        let (mut backoff, mut broken) = (Backoff::for_calls(), Backoff::for_sessions());
        let mut silences = 0;
        loop {
            let receipt = match silences + broken.tries() {
                0 => self.publisher.publish(message.clone()).await?,
                _ => self.publisher.publish_apart(message.clone()).await?,
            };
            match receipt {
                Receipt::Delivered => return Ok(Ok(())),
                Receipt::Unroutable { reason } => return Ok(Err(Undelivered::Unroutable(reason))),
                Receipt::Untakable => return Ok(Err(Undelivered::Untakable)),
                Receipt::Refused if backoff.tries() >= REFUSALS => return Ok(Err(Undelivered::Refused)),
                Receipt::Refused => backoff.wait().await,
                Receipt::Unconfirmed => {
                    silences += 1;
                    if silences >= SILENCES {
                        return Ok(Err(Undelivered::Unconfirmed));
                    }
                }
                // A link that fails is no word about the queue, however often.
                Receipt::Ends => broken.wait().await,
            }
        }
    }

    /// Once, and then the answer counts as given: its requester cannot be reached. `false` when it cannot be put aside
    /// either, now.
    async fn set_aside(&self, message: &Message, queue: &str, reason: &str) -> Result<bool, Error> {
        let id = message.id.clone();
        let aside = Message {
            routing_key: UNDELIVERABLE.to_owned(),
            headers: [
                message.headers.clone(),
                vec![
                    (aside::REPLY_TO, queue.to_owned()),
                    (aside::REASON, reason.to_owned()),
                    (aside::TIME, Timestamp::now().to_string()),
                ],
            ]
            .concat(),
            mandatory: true,
            ..message.clone()
        };
        let put = self.deliver(&aside).await?;
        match &put {
            Ok(()) => warn!(event.id = id, reply_to = queue, reason, "undeliverable: set aside"),
            Err(why) => error!(
                event.id = id,
                reply_to = queue,
                reason,
                aside = %why,
                "undeliverable, and {UNDELIVERABLE} does not take it either"
            ),
        }
        // Where it never will there is nothing to wait for.
        let settled = matches!(put, Ok(()) | Err(Undelivered::Unroutable(_) | Undelivered::Untakable));
        if settled {
            self.metrics.undeliverable.inc();
        }
        Ok(settled)
    }
}

/// What is told in the place of a result that stands whole in its event, when the broker does not take that.
fn too_large(event: &Event<'_>) -> Option<(ServedBy, Failure)> {
    let Verdict::Succeeded { served_by, result: Some(ResultView { payload, reference: None, .. }) } = event.verdict
    else {
        return None;
    };
    let why = format!(
        "the broker takes no message with this result of {} bytes, and it is in no cache where it could be fetched: \
         raise the broker's `max_message_size`, or lower `result.max`",
        payload.bytes.len()
    );
    Some((served_by, Failure::of_result(FailureCode::ResultTooLarge, why)))
}

/// Why it was set aside, and what of the request fits into no property of the copy.
fn set_aside_headers(arrival: &Arrival, code: &str, why: &str) -> Vec<(&'static str, String)> {
    let kept = [
        (aside::USER_ID, &arrival.user_id),
        (aside::CONTENT_ENCODING, &arrival.content_encoding),
        ("traceparent", &arrival.traceparent),
        ("tracestate", &arrival.tracestate),
    ];
    let told =
        [(aside::CODE, code.to_owned()), (aside::REASON, why.to_owned()), (aside::TIME, Timestamp::now().to_string())];
    told.into_iter().chain(kept.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)))).collect()
}

fn message(event: &Event<'_>, body: Arc<[u8]>) -> Message {
    let waiter = event.waiter;
    let trace = [("traceparent", &waiter.traceparent), ("tracestate", &waiter.tracestate)];
    Message {
        id: event.id(),
        exchange: String::new(),
        routing_key: String::new(),
        body,
        content_type: "application/cloudevents+json".into(),
        correlation_id: waiter.correlation_id.clone(),
        reply_to: None,
        kind: Some(event.kind()),
        user_id: None,
        headers: trace.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect(),
        mandatory: true,
    }
}
