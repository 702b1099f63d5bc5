//! Reads values: those of many keys in few calls, each value once, whoever wants it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::stream::{FuturesUnordered, StreamExt};
use redis::{Cmd, RedisResult, Value};
use tracing::warn;

use super::hot::Mark;
use super::store::unless_refused;
use super::{Entry, Invalid, Store, decode, envelope, result_key};
use crate::domain::key::RequestKey;
use crate::telemetry::metrics::Metrics;

/// So many keys are asked for in one call, which is heard of once all of it is there.
const AT_ONCE: usize = 16;
/// So many bytes of each: most values are shorter, and a call of these brings 32 KiB at most. A longer one is asked for by
/// itself, unless it is known again by its beginning.
const SMALL: usize = 2 << 10;

/// The result of one key, if it has one; or why nothing is known of it, as a word of the metric.
pub(super) type Answer = Result<Option<Arc<Entry>>, &'static str>;

impl Store {
    /// Reads what stands under each of these keys, within the budget that a lookup is worth.
    pub(super) async fn read_each(
        &self,
        keys: impl Iterator<Item = RequestKey>,
        begun: Instant,
        mark: Mark,
    ) -> HashMap<RequestKey, Answer> {
        let keys: Vec<RequestKey> = keys.collect::<HashSet<_>>().into_iter().collect();
        if keys.is_empty() || !self.breaker.admits(begun) {
            return keys.into_iter().map(|key| (key, Err("skipped"))).collect();
        }
        let mut answers = HashMap::<_, Answer>::with_capacity(keys.len());
        // Each counts when it comes: while there are some, the others are worth waiting for.
        let reading = async {
            let start = |some| async move { (some, self.read_starts(some).await) };
            let mut starts: FuturesUnordered<_> = keys.chunks(AT_ONCE).map(start).collect();
            let mut wholes = FuturesUnordered::new();
            while let Some((some, values)) = starts.next().await {
                for (key, value) in some.iter().zip(values) {
                    if let Some(entry) = self.known(key, &value, mark) {
                        answers.insert(*key, Ok(Some(entry)));
                    } else if self.may_be_cut(&value) {
                        self.note(None);
                        wholes.push(async move { (key, self.read_whole(key).await) });
                    } else {
                        answers.insert(*key, self.judge(key, value, mark));
                    }
                }
            }
            while let Some((key, value)) = wholes.next().await {
                answers.insert(*key, self.judge(key, value, mark));
            }
        };
        if self.while_it_answers(self.lookup_timeout, reading).await.is_none() {
            self.note(Some(&format!("no answer within {:?}", self.lookup_timeout)));
            for key in keys {
                answers.entry(key).or_insert(Err("error"));
            }
        }
        answers
    }

    fn judge(&self, key: &RequestKey, value: RedisResult<Value>, mark: Mark) -> Answer {
        let value = value.and_then(unless_refused);
        self.note(value.as_ref().err().map(ToString::to_string).as_deref());
        let value = value.map_err(|_| "error")?;
        let entry = self.read(&value, key);
        if let (Some(entry), Value::BulkString(value)) = (&entry, &value) {
            self.hot.put(mark, entry, envelope::head(value, entry));
        }
        Ok(entry)
    }

    /// What was read before, where it stands there still.
    fn known(&self, key: &RequestKey, start: &RedisResult<Value>, mark: Mark) -> Option<Arc<Entry>> {
        let Ok(Value::BulkString(start)) = start else { return None };
        let entry = self.hot.again(mark, key, start)?;
        self.note(None);
        Some(entry)
    }

    /// What values of these keys begin with.
    async fn read_starts(&self, keys: &[RequestKey]) -> Vec<RedisResult<Value>> {
        let mut pipeline = redis::Pipeline::with_capacity(keys.len());
        for key in keys {
            pipeline.add_command(self.get_command(key, SMALL));
        }
        let mut connection = self.connection.get();
        match pipeline.ignore_errors().query_async::<Vec<Value>>(&mut connection).await {
            Ok(values) => values.into_iter().map(Ok).collect(),
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn may_be_cut(&self, start: &RedisResult<Value>) -> bool {
        self.max_value >= SMALL && matches!(start, Ok(Value::BulkString(start)) if start.len() == SMALL)
    }

    async fn read_whole(&self, key: &RequestKey) -> RedisResult<Value> {
        let mut connection = self.connection.get();
        match self.get_command(key, usize::MAX).query_async(&mut connection).await {
            // That is an answer about the value, and it is no text.
            Err(error) if error.code() == Some("WRONGTYPE") => Ok(Value::Nil),
            answer => answer,
        }
    }

    /// The first `most` bytes, but at most one more than may be read: that tells "too large" from "just fits". A key that is
    /// not there is empty.
    pub(super) fn get_command(&self, key: &RequestKey, most: usize) -> Cmd {
        let last = self.max_value.min(most - 1);
        let mut command = redis::cmd("GETRANGE");
        command.arg(result_key(key)).arg(0).arg(last);
        command
    }

    /// Reads what was found under `key`; what does not verify is counted.
    pub(super) fn read(&self, found: &Value, key: &RequestKey) -> Option<Arc<Entry>> {
        let read = match found {
            Value::BulkString(value) if value.is_empty() => return None,
            Value::BulkString(value) if value.len() > self.max_value => Err(Invalid::Size),
            Value::BulkString(value) => decode(value, key, &self.seal),
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
}
