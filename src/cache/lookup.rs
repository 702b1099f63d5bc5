//! Looks for results: one by itself, with what is remembered of its waiter, or those of requests that came together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::records::{concerns, decision};
use super::store::unless_any_refused;
use super::{Entry, Store, answered_key, decided_key};
use crate::domain::decided::Decided;
use crate::domain::earlier::Earlier;
use crate::domain::key::RequestKey;
use crate::domain::waiter::Waiter;
use crate::telemetry::metrics::Metrics;

/// A result that somebody can use.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    pub key: &'a RequestKey,
    /// An older one is of no use to them.
    pub max_age: Option<Duration>,
}

/// What the cache knew.
#[derive(Debug, Default)]
pub struct Lookup {
    pub entry: Option<Arc<Entry>>,
    /// This very waiter has had its terminal event.
    pub answered: bool,
    /// What it is being told, or was, that no Job stands behind.
    pub decided: Option<Decided>,
    /// The entry was in the process's own memory.
    pub hot: bool,
    /// The cache did not answer: of what it holds nothing is known.
    pub away: bool,
}

impl Wanted<'_> {
    pub fn is(&self, entry: &Entry, now: Timestamp) -> bool {
        entry.expires_at > now && self.max_age.is_none_or(|max_age| entry.age(now) <= max_age)
    }
}

impl Lookup {
    const AWAY: Self = Self { entry: None, answered: false, decided: None, hot: false, away: true };
}

impl Store {
    /// Looks for each of these side by side, within the budget that a lookup is worth; what it found has the place of what
    /// was wanted. Only what can be used may come from the process's own memory.
    pub async fn look_up_each(&self, wanted: &[Wanted<'_>]) -> Vec<Lookup> {
        let (begun, now) = (Instant::now(), Timestamp::now());
        let mark = self.hot.mark(begun);
        let held = wanted.iter().map(|wanted| self.hot.get(wanted.key, begun).filter(|entry| wanted.is(entry, now)));
        let held: Vec<_> = held.collect();
        let unheld = wanted.iter().zip(&held).filter(|(_, held)| held.is_none());
        let read = self.read_each(unheld.map(|(wanted, _)| *wanted.key), begun, mark).await;
        let lookup = |(wanted, held): (&Wanted<'_>, Option<Arc<Entry>>)| match held {
            Some(entry) => Lookup { entry: Some(entry), hot: true, ..Lookup::default() },
            None => match read.get(wanted.key) {
                Some(Ok(entry)) => Lookup { entry: entry.clone(), ..Lookup::default() },
                other => {
                    self.count_lookup(other.and_then(|answer| answer.as_ref().err()).unwrap_or(&"error"));
                    Lookup::AWAY
                }
            },
        };
        wanted.iter().zip(held).map(lookup).collect()
    }

    /// Looks for the result of `key`, and for what is remembered of the tries before of `whom`, for those who would do wrong
    /// without the answer and not only more slowly.
    pub async fn look_up_patiently(&self, key: &RequestKey, whom: Option<(&Waiter, Earlier)>) -> Lookup {
        let mut pipeline = redis::pipe();
        pipeline.add_command(self.get_command(key, usize::MAX));
        let records = whom.map(|(waiter, _)| waiter.id()).map(|id| [answered_key(&id), decided_key(&id)]);
        for record in records.iter().flatten() {
            pipeline.cmd("GET").arg(record);
        }
        let lookups = &self.metrics.cache_lookups;
        let mut connection = self.connection.get();
        let call = pipeline.ignore_errors().query_async::<Vec<redis::Value>>(&mut connection);
        let call = async { call.await.and_then(unless_any_refused) };
        let Some(values) = self.call(call, self.write_timeout, lookups).await else { return Lookup::AWAY };
        let earlier = whom.map_or(Earlier::None, |(_, earlier)| earlier);
        let record = |at: usize| match values.get(at + 1) {
            Some(redis::Value::BulkString(found)) => self.seal.opened(records.as_ref()?.get(at)?, found),
            _ => None,
        };
        let answered = record(0).is_some_and(|record| concerns(record, earlier));
        let decided = record(1).and_then(|record| decision(record, earlier));
        let entry = values.first().and_then(|value| self.read(value, key));
        Lookup { entry, answered, decided, hot: false, away: false }
    }

    fn count_lookup(&self, word: &'static str) {
        Metrics::count(&self.metrics.cache_lookups, "result", word);
    }
}
