//! The calls to Redis, each within its budget.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tracing::{info, warn};

use super::breaker::Breaker;
use super::hot::Hot;
use super::records::{concerns, decision};
use super::{Entry, Invalid, Seal, answered_key, decided_key, decode, encode, result_key};
use crate::config::Cache;
use crate::domain::decided::Decided;
use crate::domain::earlier::Earlier;
use crate::domain::key::RequestKey;
use crate::domain::waiter::Waiter;
use crate::telemetry::health::{Edge, Health};
use crate::telemetry::metrics::Metrics;

/// The result cache.
pub struct Store {
    pub(super) connection: ConnectionManager,
    lookup_timeout: Duration,
    pub(super) write_timeout: Duration,
    /// In bytes.
    max_value: usize,
    /// How long values stay after they have ended.
    stale: Duration,
    pub(super) seal: Seal,
    hot: Hot,
    pub(super) breaker: Breaker,
    health: Health,
    pub(super) metrics: Metrics,
}

/// What the cache knew.
#[derive(Debug, Default)]
pub struct Lookup {
    pub entry: Option<Entry>,
    /// This very waiter has had its terminal event.
    pub answered: bool,
    /// What it is being told, or was, that no Job stands behind.
    pub decided: Option<Decided>,
    /// The entry was in the process's own memory.
    pub hot: bool,
    /// The cache did not answer: of what it holds nothing is known.
    pub away: bool,
}

/// What became of a result that was offered.
#[derive(Debug)]
pub enum Kept {
    Stored,
    /// A value of the key was there first, and stays.
    First(Box<Entry>),
    /// The cache is away.
    Not,
}

impl Store {
    /// Connects in the background: a cache that is away does not hold up the start.
    pub fn new(config: &Cache, stale: Duration, health: Health, metrics: Metrics) -> redis::RedisResult<Self> {
        let client = redis::Client::open(config.url.expose().as_str())?;
        let manager = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            // The budgets are ours, per call.
            .set_response_timeout(None)
            .set_max_delay(Duration::from_millis(500));
        Ok(Self {
            connection: ConnectionManager::new_lazy_with_config(client, manager)?,
            lookup_timeout: config.lookup_timeout,
            write_timeout: config.write_timeout,
            max_value: usize::try_from(config.max_value).unwrap_or(usize::MAX),
            stale,
            seal: Seal::new(&config.hmac_key, &config.hmac_previous),
            hot: Hot::new(config.hot_bytes, config.hot_ttl),
            breaker: Breaker::new(),
            health,
            metrics,
        })
    }

    /// Whether it answers; also what tells the probes so.
    pub async fn ping(&self) -> Result<(), String> {
        let mut connection = self.connection.clone();
        self.bounded(self.write_timeout, redis::cmd("PING").query_async::<()>(&mut connection)).await
    }

    /// Removes the result of a key; whether there was one.
    pub async fn forget(&self, key: &RequestKey) -> Result<bool, String> {
        let mut connection = self.connection.clone();
        let call = async { redis::cmd("DEL").arg(result_key(key)).query_async::<u64>(&mut connection).await };
        let removed = self.bounded(self.write_timeout, call).await;
        self.hot.drop_value(key);
        Ok(removed? > 0)
    }

    /// Looks for the result of `key`, within the budget that a lookup is worth. Only what is `usable` may
    /// come from the process's own memory.
    pub async fn look_up(&self, key: &RequestKey, usable: impl Fn(&Entry) -> bool) -> Lookup {
        let begun = Instant::now();
        if let Some(entry) = self.hot.get(key, begun).filter(|entry| usable(entry)) {
            return Lookup { entry: Some((*entry).clone()), hot: true, ..Lookup::default() };
        }
        let mark = self.hot.mark(begun);
        let lookup = self.look_up_within(key, None, self.lookup_timeout).await;
        if let Some(entry) = &lookup.entry {
            self.hot.put(mark, entry);
        }
        lookup
    }

    /// As [`Self::look_up`], and what is remembered of the tries before of `whom`, for those who would do wrong without the
    /// answer and not only more slowly.
    pub async fn look_up_patiently(&self, key: &RequestKey, whom: Option<(&Waiter, Earlier)>) -> Lookup {
        self.look_up_within(key, whom, self.write_timeout).await
    }

    async fn look_up_within(&self, key: &RequestKey, whom: Option<(&Waiter, Earlier)>, limit: Duration) -> Lookup {
        let mut pipeline = redis::pipe();
        // One byte more than is read tells "too large" from "just fits"; a key that is not there is empty.
        pipeline.cmd("GETRANGE").arg(result_key(key)).arg(0).arg(self.max_value);
        let records = whom.map(|(waiter, _)| waiter.id()).map(|id| [answered_key(&id), decided_key(&id)]);
        for record in records.iter().flatten() {
            pipeline.cmd("GET").arg(record);
        }
        let lookups = &self.metrics.cache_lookups;
        let mut connection = self.connection.clone();
        let call = pipeline.ignore_errors().query_async::<Vec<redis::Value>>(&mut connection);
        let call = async { call.await.and_then(unless_refused) };
        let Some(values) = self.call(call, limit, lookups).await else {
            return Lookup { away: true, ..Lookup::default() };
        };
        let earlier = whom.map_or(Earlier::None, |(_, earlier)| earlier);
        let record = |at: usize| match values.get(at + 1) {
            Some(redis::Value::BulkString(found)) => self.seal.opened(records.as_ref()?.get(at)?, found),
            _ => None,
        };
        let answered = record(0).is_some_and(|record| concerns(record, earlier));
        let decided = record(1).and_then(|record| decision(record, earlier));
        let entry = match values.into_iter().next() {
            Some(redis::Value::BulkString(value)) if value.is_empty() => None,
            Some(value) => self.read(value, key),
            None => None,
        };
        Lookup { entry, answered, decided, hot: false, away: false }
    }

    /// Reads what was found under `key`; what does not verify is counted.
    fn read(&self, found: redis::Value, key: &RequestKey) -> Option<Entry> {
        let read = match found {
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
    }

    /// Offers a result. The first value of a key wins, unless it has ended, or this one is to replace it.
    pub async fn keep(&self, entry: &Entry, ttl: Duration, replace: bool) -> Kept {
        let stores = &self.metrics.cache_stores;
        let value = encode(entry, &self.seal);
        if value.len() > self.max_value {
            Metrics::count(stores, "result", "too_large");
            return Kept::Not;
        }
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg(result_key(&entry.key)).arg(value).arg("EX").arg((ttl + self.stale).as_secs().max(1));
        if !replace {
            pipeline.arg("NX").arg("GET");
        }
        let mut connection = self.connection.clone();
        let call = pipeline.ignore_errors().query_async::<Vec<redis::Value>>(&mut connection);
        let call = async { call.await.and_then(unless_refused) };
        let before = self.call(call, self.write_timeout, stores).await;
        // Without an answer it may be written all the same.
        self.hot.drop_value(&entry.key);
        let Some(before) = before else { return Kept::Not };
        let first = before.into_iter().next().filter(|before| !replace && *before != redis::Value::Nil);
        let Some(first) = first else {
            Metrics::count(stores, "result", "stored");
            return Kept::Stored;
        };
        match self.read(first, &entry.key).filter(|first| first.expires_at > entry.created_at) {
            Some(first) => {
                Metrics::count(stores, "result", "kept");
                Kept::First(Box::new(first))
            }
            // A value that nobody may be told of as the outcome must not stand in the way of one that is true.
            None => Box::pin(self.keep(entry, ttl, true)).await,
        }
    }

    pub(super) async fn ask<T: redis::FromRedisValue>(
        &self,
        command: &redis::Cmd,
        limit: Duration,
        family: &crate::telemetry::metrics::ByOne,
    ) -> Option<T> {
        let mut connection = self.connection.clone();
        self.call(command.query_async::<T>(&mut connection), limit, family).await
    }

    /// One call; `None` when the cache is away, which is counted in `family`.
    async fn call<T>(
        &self,
        call: impl Future<Output = redis::RedisResult<T>>,
        limit: Duration,
        family: &crate::telemetry::metrics::ByOne,
    ) -> Option<T> {
        if !self.breaker.admits(Instant::now()) {
            Metrics::count(family, "result", "skipped");
            return None;
        }
        let answer = self.bounded(limit, call).await;
        if answer.is_err() {
            Metrics::count(family, "result", "error");
        }
        answer.ok()
    }

    /// One call within its budget; its outcome is noted.
    pub(super) async fn bounded<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, String> {
        let answer = match self.while_it_answers(limit, call).await {
            Some(answer) => answer.map_err(|error| error.to_string()),
            None => Err(format!("no answer within {limit:?}")),
        };
        self.note(answer.as_ref().err());
        answer
    }

    /// Until nothing has come from the cache for `limit`. All calls share one connection, and it answers them in their order:
    /// while it answers those before this one, what takes long is the queue of our own, and to give up would be to compute a
    /// result that is there. The same where this process was not given the processor: it has missed what came meanwhile.
    async fn while_it_answers<T>(&self, limit: Duration, call: impl Future<Output = T>) -> Option<T> {
        let mut call = std::pin::pin!(call);
        let begun = Instant::now();
        let mut until = begun + limit;
        loop {
            if let Ok(answer) = tokio::time::timeout_at(until.into(), &mut call).await {
                return Some(answer);
            }
            let now = Instant::now();
            let overslept = now.saturating_duration_since(until) > limit / 4;
            let heard = if overslept { now } else { self.breaker.answered() };
            let later = (heard + limit).min(begun + self.write_timeout);
            if later <= until {
                // What arrives in this moment is not handed out yet.
                tokio::task::yield_now().await;
                return call.as_mut().now_or_never();
            }
            until = later;
        }
    }

    /// Follows the state of the cache, and says so once when it changes.
    fn note(&self, failure: Option<&String>) {
        let was_up = self.health.is_up(Edge::Cache);
        match failure {
            None => self.breaker.succeeded(Instant::now()),
            Some(_) => self.breaker.failed(Instant::now()),
        }
        self.health.set(Edge::Cache, failure.is_none());
        match failure {
            None if !was_up => info!("Redis is up"),
            Some(why) if was_up => {
                warn!(reason = why.as_str(), "Redis is away: every lookup is a miss until it is back")
            }
            _ => {}
        }
    }
}

/// A value of another type is an answer about the value; any other refusal is one about the cache.
fn unless_refused(values: Vec<redis::Value>) -> redis::RedisResult<Vec<redis::Value>> {
    for value in &values {
        if let redis::Value::ServerError(error) = value
            && error.code() != "WRONGTYPE"
        {
            return Err(error.clone().into());
        }
    }
    Ok(values)
}
