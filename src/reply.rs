//! Answers on their way out: an event to its reply queue, confirmed and not returned, or to where
//! an operator finds it.

mod aside;
mod cached;
mod deliver;
mod exchange;
mod silent;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use tracing::{debug, info};

use crate::backoff::Backoff;
use crate::cache::result_key;
use crate::crash;
use crate::domain::event::{Encoded, Event, Reference, ResultView, ServedBy, State, Verdict};
use crate::domain::key::RequestKey;
use crate::domain::outcome::{Failure, FailureCode, Payload};
use crate::domain::status::LONGEST_EVENT;
use crate::queue::{Error, Message, Publisher, Receipt};
use crate::status::Journal;
use crate::telemetry::metrics::Metrics;
pub use cached::{Cached, Hit};
use deliver::Undelivered;
pub use exchange::Exchange;
pub use silent::Silent;

/// The broker's name for a requester that waits on its own channel. Brokers up to 4.0 return such a
/// message although it arrived, later ones never do: it is best effort either way.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to.";

/// The way out.
pub struct Replies {
    pub publisher: Publisher,
    /// As [`crate::domain::event::source`] makes it.
    pub source: String,
    /// The topic exchange that is sent events of all kinds.
    pub exchange: Option<Exchange>,
    pub silent: Silent,
    pub public_url: Option<String>,
    /// In bytes.
    pub inline_max: u64,
    pub journal: Journal,
    pub metrics: Metrics,
}

/// An event as it goes out.
struct Outgoing<'a> {
    event: &'a Event<'a>,
    body: Arc<Vec<u8>>,
    /// To its reply queue, if it has one.
    message: Option<Arc<Message>>,
    /// Whether that it was sent is noted.
    is_noted: bool,
}

impl Replies {
    /// Sends a terminal event and returns when it is safe: confirmed where it belongs, or set aside. Gives back what
    /// the requester was told: a result that is too large for the broker ends in a failure.
    pub async fn send(&self, event: &Event<'_>) -> Result<State, Error> {
        self.see_through(&self.outgoing(event), None).await
    }

    /// As [`Self::send`], but `None` where neither its queue nor that of the undeliverable takes it now.
    pub async fn try_to_send(&self, event: &Event<'_>) -> Result<Option<State>, Error> {
        self.step(&self.outgoing(event), None).await
    }

    fn outgoing<'a>(&self, event: &'a Event<'a>) -> Outgoing<'a> {
        let Encoded { id, body } = event.encode(&self.source, Timestamp::now());
        let body = Arc::new(body);
        let message = event.waiter.reply_to.as_ref().map(|queue| {
            let mandatory = !queue.starts_with(DIRECT_REPLY);
            Arc::new(Message { routing_key: queue.clone(), mandatory, ..message(event, id, Arc::clone(&body)) })
        });
        Outgoing { event, body, message, is_noted: true }
    }

    /// Whether a message to this queue is worth a try beside others: it is not known to take long.
    fn may_be_quick(&self, queue: &str) -> bool {
        !self.silent.is_suspect(queue, Instant::now())
    }

    /// Goes on until it is safe, from what the broker has said of it already.
    async fn see_through(&self, outgoing: &Outgoing<'_>, mut said: Option<Receipt>) -> Result<State, Error> {
        let mut backoff = Backoff::for_sessions();
        loop {
            match self.step(outgoing, said.take()).await? {
                Some(state) => return Ok(state),
                // Its own queue may be there again before the other one is.
                None => backoff.wait().await,
            }
        }
    }

    async fn step(&self, outgoing: &Outgoing<'_>, said: Option<Receipt>) -> Result<Option<State>, Error> {
        let event = outgoing.event;
        if let Some(message) = &outgoing.message
            && let Err(undelivered) = self.reply(message, said).await?
        {
            if let (Undelivered::Untakable, Some((served_by, failure))) = (&undelivered, too_large(event)) {
                let told = Event { verdict: Verdict::Failed { served_by, failure: &failure }, ..*event };
                return Box::pin(self.try_to_send(&told)).await;
            }
            if !Box::pin(self.set_aside(message, &undelivered)).await? {
                return Ok(None);
            }
        }
        self.is_safe(outgoing).await.map(Some)
    }

    /// What is left to do for an event that its requester has, or will find set aside.
    async fn is_safe(&self, outgoing: &Outgoing<'_>) -> Result<State, Error> {
        let event = outgoing.event;
        if outgoing.message.is_some() {
            crash::point("event-confirmed");
        }
        if let Some(exchange) = &self.exchange {
            Box::pin(exchange.send(&self.publisher, event, Arc::clone(&outgoing.body))).await?;
        }
        if outgoing.is_noted {
            self.journal.told(event, || self.remembered(event, &outgoing.body));
        }
        self.metrics.finished(event.state().as_str(), event.served_by().map_or("", |served_by| served_by.as_str()));
        let (id, key) = (event.waiter.request_id.as_str(), event.key.map(tracing::field::display));
        match (event.state(), event.served_by()) {
            // There may be too many to tell of each.
            (State::Succeeded, Some(ServedBy::Cache)) => {
                debug!(request.id = id, request.key = key, "answered from the cache");
            }
            (state, served_by) => info!(
                request.id = id,
                state = state.as_str(),
                served_by = served_by.map(ServedBy::as_str),
                request.key = key,
                job.name = event.job.map(|job| job.name.as_str()),
                "answered"
            ),
        }
        Ok(event.state())
    }

    /// Sends an event that ends nothing, to the exchange, and to a reply queue that wants it. It is not
    /// owed: one that cannot be delivered is not set aside.
    pub async fn announce(&self, event: &Event<'_>) -> Result<(), Error> {
        if event.state() == State::Started {
            self.journal.started(event.waiter);
        }
        let asked = event.waiter.reply_to.as_ref().filter(|_| event.waiter.wants_progress);
        let asked = asked.filter(|queue| self.may_be_quick(queue));
        if self.exchange.is_none() && asked.is_none() {
            return Ok(());
        }
        let Encoded { id, body } = event.encode(&self.source, Timestamp::now());
        let body = Arc::new(body);
        self.journal.told(event, || Cow::Borrowed(&body));
        if let Some(queue) = asked {
            let message = message(event, id, Arc::clone(&body));
            let message = Message { routing_key: queue.clone(), mandatory: false, ..message };
            if self.publisher.publish(message).await? == Receipt::Unconfirmed {
                self.silent.said_nothing(queue, false, Instant::now());
            }
        }
        if let Some(exchange) = &self.exchange {
            exchange.send(&self.publisher, event, body).await?;
        }
        Ok(())
    }

    /// An event as it is remembered: a long result only by where it is.
    fn remembered<'a>(&self, event: &Event<'_>, body: &'a [u8]) -> Cow<'a, [u8]> {
        let Verdict::Succeeded { served_by, result: Some(view) } = event.verdict else { return Cow::Borrowed(body) };
        let (Some(key), true) = (event.key, body.len() > LONGEST_EVENT) else { return Cow::Borrowed(body) };
        let reference = self.where_it_is(key);
        let view = ResultView { reference: Some(&reference), ..view };
        let verdict = Verdict::Succeeded { served_by, result: Some(view) };
        Cow::Owned(Event { verdict, ..*event }.encode(&self.source, Timestamp::now()).body)
    }

    /// How a result appears in an event: whole, or by reference when it is large.
    pub fn reference(&self, key: &RequestKey, payload: &Payload) -> Option<Reference> {
        (payload.bytes.len() as u64 > self.inline_max).then(|| self.where_it_is(key))
    }

    fn where_it_is(&self, key: &RequestKey) -> Reference {
        let url = self.public_url.as_ref();
        Reference {
            url: url.map(|url| format!("{}/api/v1/results/{}", url.trim_end_matches('/'), key.hex())),
            redis_key: result_key(key),
        }
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

fn message(event: &Event<'_>, id: String, body: Arc<Vec<u8>>) -> Message {
    let waiter = event.waiter;
    let trace = [("traceparent", &waiter.traceparent), ("tracestate", &waiter.tracestate)];
    Message {
        id,
        exchange: String::new(),
        routing_key: String::new(),
        body,
        content_type: "application/cloudevents+json".into(),
        correlation_id: waiter.correlation_id.clone(),
        reply_to: None,
        kind: Some(event.state().kind()),
        user_id: None,
        headers: trace.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect(),
        mandatory: true,
    }
}
