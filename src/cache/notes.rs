//! What is remembered of requests for whoever asks where they are: a hash for each, and one index of all by the time at which
//! they came.
//!
//! Over a connection of its own, so that no lookup waits behind it, and without a say in whether the cache is up.

use std::time::Duration;

use jiff::Timestamp;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisResult};

use super::connection::Connection;
use crate::config;
use crate::domain::status::{Note, Noted};

/// So many requests are listed; older ones are found by their ids alone.
const LISTED: isize = 100_000;
/// What a batch, or a page of a list, may take.
const TIMEOUT: Duration = Duration::from_secs(2);
const INDEX: &str = "jobquay:status";

/// The place of a request among all, the latest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// In milliseconds since 1970.
    pub came_at: i64,
    pub request_id: String,
}

/// The notes in Redis.
pub struct Notes {
    connection: Connection,
    keep: Duration,
}

fn key(request_id: &str) -> String {
    format!("{INDEX}:{request_id}")
}

impl Notes {
    /// Connects with the first call. `keep` says for how long a note stays.
    pub fn new(config: &config::Cache, keep: Duration) -> RedisResult<Self> {
        let client = Client::open(config.url.expose().as_str())?;
        let manager = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(None)
            .set_max_delay(Duration::from_millis(500));
        Ok(Self { connection: Connection::new(client, manager)?, keep })
    }

    /// Writes them down; why not, in words.
    pub async fn write(&self, notes: &[Noted]) -> Result<(), String> {
        let mut pipeline = redis::pipe();
        let mut last = None;
        for Noted { request_id, name, received_at, note } in notes {
            let key = key(request_id);
            let json = serde_json::to_string(note).expect("a note has string keys");
            pipeline.cmd("HSET").arg(&key).arg(name).arg(json).ignore();
            // Those of one request come together.
            if last.replace(request_id) != Some(request_id) {
                pipeline.cmd("EXPIRE").arg(&key).arg(self.keep.as_secs()).ignore();
                pipeline.cmd("ZADD").arg(INDEX).arg(received_at.as_millisecond()).arg(request_id).ignore();
            }
        }
        let oldest = Timestamp::now().checked_sub(self.keep).map_or(0, Timestamp::as_millisecond);
        pipeline.cmd("ZREMRANGEBYSCORE").arg(INDEX).arg("-inf").arg(format!("({oldest}")).ignore();
        pipeline.cmd("ZREMRANGEBYRANK").arg(INDEX).arg(0).arg(-LISTED - 1).ignore();
        self.ask(async |connection| pipeline.query_async(connection).await).await
    }

    /// Those of each of these requests, by their names; none where nothing is remembered. Notes of a newer version are passed
    /// over.
    pub async fn of_each(&self, request_ids: &[&str]) -> Result<Vec<Vec<(String, Note)>>, String> {
        let mut pipeline = redis::pipe();
        for request_id in request_ids {
            pipeline.cmd("HGETALL").arg(key(request_id));
        }
        let found: Vec<Vec<(String, Vec<u8>)>> =
            self.ask(async |connection| pipeline.query_async(connection).await).await?;
        let read = |(name, json): (String, Vec<u8>)| Some((name, serde_json::from_slice(&json).ok()?));
        Ok(found.into_iter().map(|notes| notes.into_iter().filter_map(read).collect()).collect())
    }

    /// At most so many that came before this place, or the latest; fewer only where there are no more.
    pub async fn before(&self, place: Option<&Place>, count: usize) -> Result<Vec<Place>, String> {
        let (mut offset, mut places) = (0, Vec::new());
        loop {
            let mut command = redis::cmd("ZREVRANGEBYSCORE");
            command.arg(INDEX).arg(place.map_or("+inf".to_owned(), |place| place.came_at.to_string()));
            command.arg("-inf").arg("WITHSCORES").arg("LIMIT").arg(offset).arg(count + 1);
            let found: Vec<(String, f64)> = self.ask(async |connection| command.query_async(connection).await).await?;
            offset += found.len();
            let is_all = found.len() <= count;
            #[expect(clippy::cast_possible_truncation, reason = "milliseconds since 1970, which a double holds")]
            let found = found.into_iter().map(|(request_id, at)| Place { came_at: at as i64, request_id });
            // That place comes first, after all that came in its millisecond and are ordered before it.
            places.extend(found.filter(|found| place.is_none_or(|place| found.is_before(place))));
            if is_all || places.len() >= count {
                places.truncate(count);
                return Ok(places);
            }
        }
    }

    async fn ask<T>(&self, call: impl AsyncFnOnce(&mut ConnectionManager) -> RedisResult<T>) -> Result<T, String> {
        let mut connection = self.connection.get();
        match tokio::time::timeout(TIMEOUT, call(&mut connection)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => {
                // The client keeps a connection over which nothing comes any more. Where there is no other, this one stays.
                let _ = tokio::time::timeout(TIMEOUT, self.connection.renew()).await;
                Err(format!("no answer from Redis within {TIMEOUT:?}"))
            }
        }
    }
}

impl Place {
    fn is_before(&self, other: &Self) -> bool {
        // As Redis orders those of one score.
        (self.came_at, &self.request_id) < (other.came_at, &other.request_id)
    }
}
