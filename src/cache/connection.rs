//! The connection to Redis, and another in its place where nothing has come of it for long.
//!
//! The client makes a connection anew when a call over it fails. A call that is given up tells it nothing: a connection
//! whose peer has gone without a word would be used for as long as TCP tries, which is a quarter of an hour. Nor does it
//! try again where it was refused while it connected, by a Redis that did not know the password yet.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisResult};

/// After so long without any answer a new connection is worth a try, and another after that.
const SILENT: Duration = Duration::from_secs(5);

pub(super) struct Connection {
    client: Client,
    config: ConnectionManagerConfig,
    current: RwLock<Current>,
}

struct Current {
    manager: ConnectionManager,
    since: Instant,
}

impl Connection {
    /// It connects with the first call.
    pub(super) fn new(client: Client, config: ConnectionManagerConfig) -> RedisResult<Self> {
        let current = RwLock::new(Current::new(&client, &config)?);
        Ok(Self { client, config, current })
    }

    pub(super) fn get(&self) -> ConnectionManager {
        // Each change is one assignment, so a panic leaves nothing half done.
        self.current.read().unwrap_or_else(PoisonError::into_inner).manager.clone()
    }

    /// Calls have failed since then, and none had an answer. Those that are still under way end on the connection that they
    /// have begun on.
    pub(super) fn has_failed_since(&self, since: Instant) {
        if since.elapsed() < SILENT {
            return;
        }
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.since.elapsed() >= SILENT
            // It was made once from the same.
            && let Ok(new) = Current::new(&self.client, &self.config)
        {
            *current = new;
        }
    }
}

impl Current {
    fn new(client: &Client, config: &ConnectionManagerConfig) -> RedisResult<Self> {
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?;
        Ok(Self { manager, since: Instant::now() })
    }
}
