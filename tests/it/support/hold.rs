//! Who may use the parts of the stack at a time: tests that need every part, some side by side, or one that takes a part away.
//!
//! The others have the way first. Those that take parts away wait, each in a thread of its own, until nobody needs every
//! part, and then come one after the other: so the machine stands idle for the last of the others once, and not for each.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore, watch};

/// Tests that need every part wait for pods most of the time: so many at once keep two processors busy. With more, Redis
/// comes too late to its answers and Leases are lost, which tests do not expect.
const SIDE_BY_SIDE: usize = 6;
/// From the end of one test to the start of the next in its thread, and more.
const NEXT_TEST: Duration = Duration::from_millis(500);

static PARTS: LazyLock<Parts> = LazyLock::new(|| Parts {
    taken_away: Arc::default(),
    room: Arc::new(Semaphore::new(SIDE_BY_SIDE)),
    needed: watch::Sender::new(0),
});

struct Parts {
    /// Held for reading by those that need every part, for writing by one that takes one away.
    taken_away: Arc<RwLock<()>>,
    room: Arc<Semaphore>,
    /// How many need every part, or wait to.
    needed: watch::Sender<usize>,
}

/// A test's hold on the parts.
pub(crate) enum Hold {
    Shared { _guard: OwnedRwLockReadGuard<()>, _room: OwnedSemaphorePermit, _need: Need },
    Alone { _guard: OwnedRwLockWriteGuard<()> },
}

/// Counted as long as it is there.
pub(crate) struct Need(());

impl Need {
    fn new() -> Self {
        PARTS.needed.send_modify(|count| *count += 1);
        Self(())
    }
}

impl Drop for Need {
    fn drop(&mut self) {
        PARTS.needed.send_modify(|count| *count -= 1);
    }
}

impl Hold {
    pub(crate) async fn shared() -> Self {
        let _need = Need::new();
        let _room = Arc::clone(&PARTS.room).acquire_owned().await.expect("the semaphore is never closed");
        Self::Shared { _guard: Arc::clone(&PARTS.taken_away).read_owned().await, _room, _need }
    }

    pub(crate) async fn alone() -> Self {
        let mut needed = PARTS.needed.subscribe();
        loop {
            // The sender lives as long as the program.
            let _ = needed.wait_for(|count| *count == 0).await;
            if tokio::time::timeout(NEXT_TEST, needed.wait_for(|count| *count > 0)).await.is_err() {
                return Self::Alone { _guard: Arc::clone(&PARTS.taken_away).write_owned().await };
            }
        }
    }
}
