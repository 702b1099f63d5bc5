//! What the broker says about the connection as a whole.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use lapin::{Connection, Event};
use tracing::{info, warn};

use crate::queue::Error;

/// Follows what the broker says.
pub(super) struct Link {
    events: Pin<Box<dyn Stream<Item = Event> + Send>>,
    blocked: Arc<AtomicBool>,
}

/// Whether the broker is in alarm and reads nothing, as it has said.
#[derive(Clone)]
pub(super) struct Alarm(Arc<AtomicBool>);

impl Alarm {
    pub(super) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Link {
    pub(super) fn of(connection: &Connection) -> Self {
        Self { events: Box::pin(connection.events_listener()), blocked: Arc::default() }
    }

    pub(super) fn alarm(&self) -> Alarm {
        Alarm(Arc::clone(&self.blocked))
    }

    /// Resolves when the connection has failed; follows alarms meanwhile. Cancel safe: an event that
    /// was taken has been acted on.
    pub(super) async fn failed(&mut self) -> Error {
        loop {
            match self.events.next().await {
                Some(Event::Error(source)) => return Error::Amqp { action: "keep the connection", source },
                Some(Event::ConnectionBlocked(reason)) => {
                    self.blocked.store(true, Ordering::Relaxed);
                    warn!(reason, "the broker takes no messages: it is in alarm");
                }
                Some(Event::ConnectionUnblocked) => {
                    self.blocked.store(false, Ordering::Relaxed);
                    info!("the broker takes messages again");
                }
                Some(_) => {}
                None => return Error::Timeout(Duration::ZERO, "keep the connection"),
            }
        }
    }
}
