//! The calls to Redis, each within its budget.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tracing::{info, warn};

use super::breaker::Breaker;
use super::{Entry, answered_key, cancelled_key, decode, encode, result_key};
use crate::config::Cache;
use crate::domain::event::State;
use crate::domain::key::RequestKey;
use crate::telemetry::health::{Edge, Health};
use crate::telemetry::metrics::Metrics;

/// The memory that a request was answered; longer than a broker redelivers.
const ANSWERED_FOR: Duration = Duration::from_secs(24 * 3600);

/// The result cache.
pub struct Store {
    connection: ConnectionManager,
    lookup_timeout: Duration,
    write_timeout: Duration,
    breaker: Breaker,
    health: Health,
    metrics: Metrics,
}

/// What the cache knew.
#[derive(Debug, Default)]
pub struct Lookup {
    pub entry: Option<Entry>,
    /// This very waiter has had its terminal event.
    pub answered: bool,
}

/// What became of a result that was offered.
#[derive(Debug)]
pub enum Kept {
    Stored,
    /// Another value of the key was there first, and is the one that everyone is told.
    First(Box<Entry>),
    /// The cache is away.
    Not,
}

impl Store {
    /// Connects in the background: a cache that is away does not hold up the start.
    pub fn new(config: &Cache, health: Health, metrics: Metrics) -> redis::RedisResult<Self> {
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

    /// Looks for the result of `key`, within the budget that a lookup is worth.
    pub async fn look_up(&self, key: &RequestKey) -> Lookup {
        self.look_up_within(key, None, self.lookup_timeout).await
    }

    /// As [`Self::look_up`], and whether `waiter_id` was answered, for those who would do wrong without the
    /// answer and not only more slowly.
    pub async fn look_up_patiently(&self, key: &RequestKey, waiter_id: Option<&str>) -> Lookup {
        self.look_up_within(key, waiter_id, self.write_timeout).await
    }

    async fn look_up_within(&self, key: &RequestKey, waiter_id: Option<&str>, limit: Duration) -> Lookup {
        let mut command = redis::cmd("MGET");
        command.arg(result_key(key));
        if let Some(waiter_id) = waiter_id {
            command.arg(answered_key(waiter_id));
        }
        let lookups = &self.metrics.cache_lookups;
        let Some(values) = self.call::<Vec<Option<Vec<u8>>>>(&command, limit, lookups).await else {
            return Lookup::default();
        };
        let mut values = values.into_iter();
        let entry = values.next().flatten().and_then(|value| match decode(&value, key) {
            Ok(entry) => Some(entry),
            Err(why) => {
                Metrics::count(lookups, "result", "invalid");
                warn!(%key, reason = %why, "a cached value does not verify");
                None
            }
        });
        Lookup { entry, answered: values.next().flatten().is_some() }
    }

    /// Offers a result. The first value of a key wins, unless this one is to replace it.
    pub async fn keep(&self, entry: &Entry, ttl: Duration, replace: bool) -> Kept {
        let mut command = redis::cmd("SET");
        command.arg(result_key(&entry.key)).arg(encode(entry)).arg("EX").arg(ttl.as_secs().max(1));
        if !replace {
            command.arg("NX").arg("GET");
        }
        let stores = &self.metrics.cache_stores;
        let Some(before) = self.call::<redis::Value>(&command, self.write_timeout, stores).await else {
            return Kept::Not;
        };
        let first = match before {
            redis::Value::BulkString(value) if !replace => decode(&value, &entry.key),
            _ => {
                Metrics::count(stores, "result", "stored");
                return Kept::Stored;
            }
        };
        match first {
            Ok(first) => {
                Metrics::count(stores, "result", "kept");
                Kept::First(Box::new(first))
            }
            // A value that nobody may be told of must not stand in the way of one that is true.
            Err(_) => Box::pin(self.keep(entry, ttl, true)).await,
        }
    }

    /// Remembers that these waiters were answered. Best effort: without it a redelivery is answered twice.
    pub async fn record_answers(&self, waiter_ids: &[String], state: State) {
        let mut pipeline = redis::pipe();
        for waiter_id in waiter_ids {
            pipeline
                .cmd("SET")
                .arg(answered_key(waiter_id))
                .arg(state.as_str())
                .arg("EX")
                .arg(ANSWERED_FOR.as_secs())
                .ignore();
        }
        if !self.breaker.admits(Instant::now()) {
            return;
        }
        let mut connection = self.connection.clone();
        // What went wrong is in the log and in the health of the cache.
        let _ = self.bounded(self.write_timeout, pipeline.query_async::<()>(&mut connection)).await;
    }

    /// Whether a waiter has had its terminal event, as far as is remembered.
    pub async fn was_answered(&self, waiter_id: &str) -> bool {
        let mut command = redis::cmd("EXISTS");
        command.arg(answered_key(waiter_id));
        self.call::<bool>(&command, self.write_timeout, &self.metrics.cache_lookups).await.unwrap_or_default()
    }

    /// Remembers that a request was cancelled, for when it comes. Best effort: `false` when the cache is away.
    pub async fn record_cancellation(&self, producer: Option<&str>, request_id: &str, reason: &str) -> bool {
        let mut command = redis::cmd("SET");
        command.arg(cancelled_key(producer, request_id)).arg(reason).arg("EX").arg(ANSWERED_FOR.as_secs());
        self.call::<()>(&command, self.write_timeout, &self.metrics.cache_stores).await.is_some()
    }

    /// The reason, if the request was cancelled.
    pub async fn cancellation(&self, producer: Option<&str>, request_id: &str) -> Option<String> {
        let mut command = redis::cmd("GET");
        command.arg(cancelled_key(producer, request_id));
        self.call::<Option<String>>(&command, self.write_timeout, &self.metrics.cache_lookups).await.flatten()
    }

    /// One command; `None` when the cache is away, which is counted in `family`.
    async fn call<T: redis::FromRedisValue>(
        &self,
        command: &redis::Cmd,
        limit: Duration,
        family: &crate::telemetry::metrics::ByOne,
    ) -> Option<T> {
        if !self.breaker.admits(Instant::now()) {
            Metrics::count(family, "result", "skipped");
            return None;
        }
        let mut connection = self.connection.clone();
        let answer = self.bounded(limit, command.query_async::<T>(&mut connection)).await;
        if answer.is_err() {
            Metrics::count(family, "result", "error");
        }
        answer.ok()
    }

    /// One call within its budget; its outcome is noted.
    async fn bounded<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, String> {
        let answer = match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {limit:?}")),
        };
        self.note(answer.as_ref().err());
        answer
    }

    /// Follows the state of the cache, and says so once when it changes.
    fn note(&self, failure: Option<&String>) {
        let was_up = self.health.is_up(Edge::Cache);
        match failure {
            None => self.breaker.succeeded(),
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

impl Entry {
    /// Seconds since the result was made.
    pub fn age(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.created_at)).unwrap_or_default()
    }
}
