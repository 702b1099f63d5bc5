//! The calls to Redis, each within its budget.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use jiff::Timestamp;
use redis::aio::ConnectionManagerConfig;
use tracing::{info, warn};

use super::breaker::Breaker;
use super::connection::Connection;
use super::hot::Hot;
use super::{Entry, Seal, encode, result_key};
use crate::config::{Cache, Results};
use crate::domain::key::RequestKey;
use crate::telemetry::health::{Edge, Health};
use crate::telemetry::metrics::Metrics;

/// The result cache.
pub struct Store {
    pub(super) connection: Connection,
    pub(super) lookup_timeout: Duration,
    pub(super) write_timeout: Duration,
    /// In bytes.
    pub(super) max_value: usize,
    /// How long values stay after they have ended.
    stale: Duration,
    pub(super) seal: Seal,
    pub(super) hot: Hot,
    pub(super) breaker: Breaker,
    health: Health,
    pub(super) metrics: Metrics,
}

/// What became of a result that was offered.
#[derive(Debug)]
pub enum Kept {
    Stored,
    /// A value of the key was there first, and stays.
    First(Arc<Entry>),
    /// The cache is away.
    Not,
}

impl Store {
    /// Connects in the background: a cache that is away does not hold up the start.
    pub fn new(config: &Cache, results: &Results, health: Health, metrics: Metrics) -> redis::RedisResult<Self> {
        let client = redis::Client::open(config.url.expose().as_str())?;
        let manager = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            // The budgets are ours, per call.
            .set_response_timeout(None)
            .set_max_delay(Duration::from_millis(500));
        Ok(Self {
            connection: Connection::new(client, manager)?,
            lookup_timeout: config.lookup_timeout,
            write_timeout: config.write_timeout,
            max_value: usize::try_from(config.max_value).unwrap_or(usize::MAX),
            stale: results.stale,
            seal: Seal::new(&config.hmac_key, &config.hmac_previous),
            hot: Hot::new(config.hot_bytes, config.hot_ttl, results.inline_max),
            breaker: Breaker::new(),
            health,
            metrics,
        })
    }

    /// Whether it answers; also what tells the probes so.
    pub async fn ping(&self) -> Result<(), String> {
        let mut connection = self.connection.get();
        self.bounded(self.write_timeout, redis::cmd("PING").query_async::<()>(&mut connection)).await
    }

    /// Removes the result of a key; whether there was one.
    pub async fn forget(&self, key: &RequestKey) -> Result<bool, String> {
        let mut connection = self.connection.get();
        let call = async { redis::cmd("DEL").arg(result_key(key)).query_async::<u64>(&mut connection).await };
        let removed = self.bounded(self.write_timeout, call).await;
        self.hot.drop_value(key);
        Ok(removed? > 0)
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
        pipeline
            .cmd("SET")
            .arg(result_key(&entry.key))
            .arg(value)
            .arg("EX")
            .arg(ttl.saturating_add(self.stale).as_secs().max(1));
        if !replace {
            pipeline.arg("NX").arg("GET");
        }
        let mut connection = self.connection.get();
        let call = pipeline.ignore_errors().query_async::<Vec<redis::Value>>(&mut connection);
        let call = async { call.await.and_then(unless_any_refused) };
        let before = self.call(call, self.write_timeout, stores).await;
        // Without an answer it may be written all the same.
        self.hot.drop_value(&entry.key);
        let Some(before) = before else { return Kept::Not };
        let first = before.into_iter().next().filter(|before| !replace && *before != redis::Value::Nil);
        let Some(first) = first else {
            Metrics::count(stores, "result", "stored");
            return Kept::Stored;
        };
        match self.read(&first, &entry.key).filter(|first| first.stands_beside(entry, Timestamp::now())) {
            Some(first) => {
                Metrics::count(stores, "result", "kept");
                Kept::First(first)
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
        let mut connection = self.connection.get();
        self.call(command.query_async::<T>(&mut connection), limit, family).await
    }

    /// One call; `None` when the cache is away, which is counted in `family`.
    pub(super) async fn call<T>(
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
        self.note(answer.as_ref().err().map(String::as_str));
        answer
    }

    /// Until nothing has come from the cache for `limit`. All calls share one connection, and it answers them in their order:
    /// while it answers those before this one, what takes long is the queue of our own, and to give up would be to compute a
    /// result that is there. The same where this process was not given the processor: it has missed what came meanwhile.
    pub(super) async fn while_it_answers<T>(&self, limit: Duration, call: impl Future<Output = T>) -> Option<T> {
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
    pub(super) fn note(&self, failure: Option<&str>) {
        let was_up = self.health.is_up(Edge::Cache);
        match failure {
            None => self.breaker.succeeded(Instant::now()),
            Some(_) => self.breaker.failed(Instant::now()),
        }
        self.health.set(Edge::Cache, failure.is_none());
        match failure {
            None if !was_up => info!("Redis is up"),
            Some(why) if was_up => {
                warn!(reason = why, "Redis is away: every lookup is a miss until it is back")
            }
            _ => {}
        }
    }
}

/// A value of another type is an answer about the value; any other refusal is one about the cache.
pub(super) fn unless_refused(value: redis::Value) -> redis::RedisResult<redis::Value> {
    match value {
        redis::Value::ServerError(error) if error.code() != "WRONGTYPE" => Err(error.into()),
        value => Ok(value),
    }
}

/// The same for several.
pub(super) fn unless_any_refused(values: Vec<redis::Value>) -> redis::RedisResult<Vec<redis::Value>> {
    values.into_iter().map(unless_refused).collect()
}
