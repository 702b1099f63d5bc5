//! The connection to Redis, and another in its place where nothing has come of it for long.
//!
//! The client makes a connection anew when a call over it fails. A call that is given up tells it nothing: a connection
//! whose peer has gone without a word would be used for as long as TCP tries, which is a quarter of an hour. Nor does it
//! try again where it was refused while it connected, by a Redis that did not know the password yet.

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisResult};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Store;
use crate::telemetry::chain;

/// After so long without any answer a new connection is worth a try, and so long a try may take.
const SILENT: Duration = Duration::from_secs(5);
/// How often that is looked at.
const TICK: Duration = Duration::from_secs(1);

pub(super) struct Connection {
    client: Client,
    config: ConnectionManagerConfig,
    current: RwLock<ConnectionManager>,
}

impl Connection {
    /// It connects with the first call.
    pub(super) fn new(client: Client, config: ConnectionManagerConfig) -> RedisResult<Self> {
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?;
        Ok(Self { client, config, current: RwLock::new(manager) })
    }

    pub(super) fn get(&self) -> ConnectionManager {
        // Each change is one assignment, so a panic leaves nothing half done.
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a new one in its place once that is open. Calls that are under way end on the one that they have begun on.
    pub(super) async fn renew(&self) -> RedisResult<()> {
        let new = ConnectionManager::new_with_config(self.client.clone(), self.config.clone()).await?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

impl Store {
    /// Until `stop`: tries for another connection while all calls have failed for long.
    pub async fn keep_connected(&self, stop: CancellationToken) {
        let watching = async {
            loop {
                tokio::time::sleep(TICK).await;
                let failing_since = self.breaker.failing_since();
                if failing_since.is_none_or(|since| since.elapsed() < SILENT) {
                    continue;
                }
                // There may have been no call since.
                if self.ping().await.is_ok() {
                    continue;
                }
                let begun = Instant::now();
                match tokio::time::timeout(SILENT, self.connection.renew()).await {
                    Ok(Ok(())) => {
                        info!("another connection to Redis has taken the place of one that answered nothing");
                        // It is used by then, and known to be; or the log says why not.
                        let _ = self.ping().await;
                    }
                    Ok(Err(error)) => debug!(error = chain(&error), "no other connection to Redis"),
                    Err(_) => debug!("no other connection to Redis in time"),
                }
                // What it is worth shows by then.
                tokio::time::sleep(SILENT.saturating_sub(begun.elapsed())).await;
            }
        };
        stop.run_until_cancelled(watching).await;
    }
}
