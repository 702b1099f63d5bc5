//! Looks for results: one by itself, with what is remembered of its waiter, or those of requests that came together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use tracing::warn;

use super::records::{concerns, decision};
use super::store::unless_refused;
use super::{Entry, Invalid, Store, answered_key, decided_key, decode, result_key};
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
        let mut asked = FuturesUnordered::new();
        let mut lookups = Vec::with_capacity(wanted.len());
        for (place, wanted) in wanted.iter().enumerate() {
            let held = self.hot.get(wanted.key, begun).filter(|entry| wanted.is(entry, now));
            lookups.push(match held {
                Some(entry) => Lookup { entry: Some(entry), hot: true, ..Lookup::default() },
                None => Lookup::AWAY,
            });
            if !lookups[place].hot {
                if self.breaker.admits(begun) {
                    asked.push(async move { (place, self.get(wanted.key).await) });
                } else {
                    self.count_lookup("skipped");
                }
            }
        }
        // Each answer counts when it comes: while there are some, the others are worth waiting for.
        let answers = async {
            while let Some((place, answer)) = asked.next().await {
                lookups[place] = match answer {
                    Ok(found) => {
                        self.note(None);
                        Lookup { entry: self.read(found, wanted[place].key), ..Lookup::default() }
                    }
                    Err(error) => self.failed(&error.to_string()),
                };
                if let Some(entry) = &lookups[place].entry {
                    self.hot.put(mark, entry);
                }
            }
        };
        if self.while_it_answers(self.lookup_timeout, answers).await.is_none() {
            let why = format!("no answer within {:?}", self.lookup_timeout);
            for _ in 0..asked.len() {
                self.failed(&why);
            }
        }
        lookups
    }

    /// Looks for the result of `key`, and for what is remembered of the tries before of `whom`, for those who would do wrong
    /// without the answer and not only more slowly.
    pub async fn look_up_patiently(&self, key: &RequestKey, whom: Option<(&Waiter, Earlier)>) -> Lookup {
        let mut pipeline = redis::pipe();
        pipeline.add_command(self.get_command(key));
        let records = whom.map(|(waiter, _)| waiter.id()).map(|id| [answered_key(&id), decided_key(&id)]);
        for record in records.iter().flatten() {
            pipeline.cmd("GET").arg(record);
        }
        let lookups = &self.metrics.cache_lookups;
        let mut connection = self.connection.clone();
        let call = pipeline.ignore_errors().query_async::<Vec<redis::Value>>(&mut connection);
        let call = async { call.await.and_then(unless_refused) };
        let Some(values) = self.call(call, self.write_timeout, lookups).await else { return Lookup::AWAY };
        let earlier = whom.map_or(Earlier::None, |(_, earlier)| earlier);
        let record = |at: usize| match values.get(at + 1) {
            Some(redis::Value::BulkString(found)) => self.seal.opened(records.as_ref()?.get(at)?, found),
            _ => None,
        };
        let answered = record(0).is_some_and(|record| concerns(record, earlier));
        let decided = record(1).and_then(|record| decision(record, earlier));
        let entry = values.into_iter().next().and_then(|value| self.read(value, key));
        Lookup { entry, answered, decided, hot: false, away: false }
    }

    async fn get(&self, key: &RequestKey) -> redis::RedisResult<redis::Value> {
        let mut connection = self.connection.clone();
        match self.get_command(key).query_async(&mut connection).await {
            // That is an answer about the value, and it is no text.
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(redis::Value::Nil),
            answer => answer,
        }
    }

    /// One byte more than is read tells "too large" from "just fits"; a key that is not there is empty.
    fn get_command(&self, key: &RequestKey) -> redis::Cmd {
        let mut command = redis::cmd("GETRANGE");
        command.arg(result_key(key)).arg(0).arg(self.max_value);
        command
    }

    /// Reads what was found under `key`; what does not verify is counted.
    pub(super) fn read(&self, found: redis::Value, key: &RequestKey) -> Option<Arc<Entry>> {
        let read = match found {
            redis::Value::BulkString(value) if value.is_empty() => return None,
            redis::Value::BulkString(value) if value.len() > self.max_value => Err(Invalid::Size),
            redis::Value::BulkString(value) => decode(&value, key, &self.seal),
            // A list, say: no version of ours.
            _ => Err(Invalid::Version),
        };
        read.inspect_err(|why| {
            Metrics::count(&self.metrics.cache_invalid, "reason", why.as_str());
            warn!(%key, reason = %why, "a cached value does not verify");
        })
        .ok()
        .map(Arc::new)
    }

    fn failed(&self, why: &str) -> Lookup {
        self.note(Some(why));
        self.count_lookup("error");
        Lookup::AWAY
    }

    fn count_lookup(&self, word: &'static str) {
        Metrics::count(&self.metrics.cache_lookups, "result", word);
    }
}
