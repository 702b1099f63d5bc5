//! How long a request that finds no place is held.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Unsettled;
use crate::backoff::Backoff;

/// A request that found no place for so long is handed back; the broker takes a delivery away after 30 minutes.
const HOLD: Duration = Duration::from_secs(900);

/// How long one request has been held, and how often it was tried.
pub(super) struct Patience {
    begun: Instant,
    backoff: Backoff,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self { begun: Instant::now(), backoff: Backoff::for_calls() }
    }

    /// Waits a little; gives up where the delivery was held too long, or where the process stops.
    pub(super) async fn wait(&mut self, stop: &CancellationToken) -> Result<(), Unsettled> {
        if self.begun.elapsed() > HOLD {
            return Err(Unsettled::Held(HOLD));
        }
        tokio::select! {
            () = self.backoff.wait() => Ok(()),
            () = stop.cancelled() => Err(Unsettled::Stopping),
        }
    }

    pub(super) fn has_lasted(&self, time: Duration) -> bool {
        self.begun.elapsed() >= time
    }

    /// Resolves when the delivery was held too long, or when the process stops.
    pub(super) async fn over(&self, stop: &CancellationToken) -> Unsettled {
        tokio::select! {
            () = tokio::time::sleep(HOLD.saturating_sub(self.begun.elapsed())) => Unsettled::Held(HOLD),
            () = stop.cancelled() => Unsettled::Stopping,
        }
    }
}
