//! Answers with results that were kept: one, or those of requests that came together.

use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;

use super::{Outgoing, Replies};
use crate::cache::Entry;
use crate::domain::event::{Event, Reference, ResultView, ServedBy, State, Timings, Verdict};
use crate::domain::waiter::Waiter;
use crate::queue::{Error, Message, Receipt};

/// A result that was kept, and whom it answers.
#[derive(Debug, Clone, Copy)]
pub struct Cached<'a> {
    pub waiter: &'a Waiter,
    pub template: &'a str,
    pub entry: &'a Entry,
}

/// Likewise, to be kept until it is told.
#[derive(Debug)]
pub struct Hit {
    pub waiter: Waiter,
    pub template: Arc<str>,
    pub entry: Arc<Entry>,
    /// Whether that it was told is noted.
    pub is_noted: bool,
}

/// A hit and its event, as it goes out.
struct Written {
    hit: Hit,
    reference: Option<Reference>,
    now: Timestamp,
    body: Arc<Vec<u8>>,
    message: Option<Arc<Message>>,
}

impl<'a> Cached<'a> {
    /// As what it is: another Job's, of some age.
    fn event(self, reference: Option<&'a Reference>, now: Timestamp) -> Event<'a> {
        let entry = self.entry;
        let view = ResultView {
            payload: &entry.payload,
            age_seconds: entry.age(now).as_secs(),
            expires_at: Some(entry.expires_at),
            reference,
        };
        let result = (!entry.payload.is_none()).then_some(view);
        Event {
            waiter: self.waiter,
            verdict: Verdict::Succeeded { served_by: ServedBy::Cache, result },
            key: Some(&entry.key),
            template: Some(self.template),
            job: Some(&entry.job),
            timings: Timings::default(),
        }
    }
}

impl Hit {
    fn event<'a>(&'a self, reference: Option<&'a Reference>, now: Timestamp) -> Event<'a> {
        Cached { waiter: &self.waiter, template: &self.template, entry: &self.entry }.event(reference, now)
    }
}

impl Written {
    fn of(replies: &Replies, hit: Hit, now: Timestamp) -> Self {
        let reference = replies.reference(&hit.entry.key, &hit.entry.payload);
        let event = hit.event(reference.as_ref(), now);
        let Outgoing { body, message, .. } = replies.outgoing(&event);
        Self { hit, reference, now, body, message }
    }

    fn event(&self) -> Event<'_> {
        self.hit.event(self.reference.as_ref(), self.now)
    }

    fn outgoing<'a>(&self, event: &'a Event<'a>) -> Outgoing<'a> {
        let (body, message) = (Arc::clone(&self.body), self.message.clone());
        Outgoing { event, body, message, is_noted: self.hit.is_noted }
    }
}

impl Replies {
    pub async fn send_cached(&self, cached: Cached<'_>) -> Result<State, Error> {
        let reference = self.reference(&cached.entry.key, &cached.entry.payload);
        self.send(&cached.event(reference.as_ref(), Timestamp::now())).await
    }

    /// As [`Replies::try_to_send`].
    pub async fn try_to_send_cached(&self, cached: Cached<'_>) -> Result<Option<State>, Error> {
        let reference = self.reference(&cached.entry.key, &cached.entry.payload);
        self.try_to_send(&cached.event(reference.as_ref(), Timestamp::now())).await
    }

    /// Sends all of them side by side. `told` hears of each, by its place, as soon as it is safe: what is slow holds up no
    /// other, nor keeps its memory. On an error those of which it has heard nothing are not safe.
    pub async fn send_each_cached(
        &self,
        hits: Vec<Hit>,
        mut told: impl FnMut(usize, Result<State, Error>),
    ) -> Result<(), Error> {
        let now = Timestamp::now();
        let written = hits.into_iter().map(|hit| Written::of(self, hit, now));
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for (place, written) in written.enumerate() {
            match &written.message {
                Some(message) if self.may_be_quick(&message.routing_key) => together.push(Some((place, written))),
                _ => alone.push((place, written)),
            }
        }
        let messages = together.iter().flatten().filter_map(|(_, written)| written.message.clone());
        let mut receipts = self.publisher.publish_each(messages.collect::<Vec<_>>()).await?;

        let see_through = |place: usize, written: Written, said| async move {
            let event = written.event();
            (place, self.see_through(&written.outgoing(&event), said).await)
        };
        let mut others: FuturesUnordered<_> =
            alone.into_iter().map(|(place, written)| see_through(place, written, None)).collect();
        let mut more = !together.is_empty();
        loop {
            tokio::select! {
                come = receipts.next(), if more => {
                    let come = come?;
                    more = !come.is_empty();
                    for (at, receipt) in come {
                        let Some((place, written)) = together[at].take() else { continue };
                        if receipt == Receipt::Delivered && self.exchange.is_none() {
                            let event = written.event();
                            told(place, self.is_safe(&written.outgoing(&event)).await);
                        } else {
                            others.push(see_through(place, written, Some(receipt)));
                        }
                    }
                }
                Some((place, sent)) = others.next() => told(place, sent),
                else => return Ok(()),
            }
        }
    }
}
