//! The topic exchange that is sent events of all kinds, whoever listens there: best effort.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use super::message;
use crate::domain::event::Event;
use crate::queue::{Error, Message, Publisher, Receipt};

/// An exchange that is not there ends the publisher's session at every try, and holds up the replies behind
/// it. After that nothing is sent there for so long.
const REST: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Exchange {
    name: String,
    rests_until: Mutex<Option<Instant>>,
}

impl Exchange {
    pub fn new(name: String) -> Self {
        Self { name, rests_until: Mutex::default() }
    }

    /// Returns when the broker has it. Nobody is owed it: what the exchange does not take is not kept.
    pub(super) async fn send(&self, publisher: &Publisher, event: &Event<'_>, body: Arc<Vec<u8>>) -> Result<(), Error> {
        if self.rests_until().is_some_and(|until| Instant::now() < until) {
            return Ok(());
        }
        let message = Message {
            exchange: self.name.clone(),
            routing_key: event.routing_key(),
            mandatory: false,
            ..message(event, event.id(), body)
        };
        let message = Arc::new(message);
        let mut receipt = publisher.publish(Arc::clone(&message)).await?;
        if receipt == Receipt::Unconfirmed {
            // It may have stood behind one that was not confirmed.
            receipt = publisher.publish_apart(message).await?;
        }
        if matches!(receipt, Receipt::Refused | Receipt::Unconfirmed | Receipt::Ends) {
            warn!(exchange = self.name, rest = ?REST, "the exchange of `events.exchange` takes nothing; leaving it alone");
            *self.lock() = Instant::now().checked_add(REST);
        }
        Ok(())
    }

    fn rests_until(&self) -> Option<Instant> {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        // One assignment: a panic leaves nothing half done.
        self.rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
