//! What every test needs: a world of its own, a dispatcher in it, a producer, and a recorder.

pub(crate) mod admission;
pub(crate) mod api_proxy;
pub(crate) mod broker;
pub(crate) mod broker_cluster;
pub(crate) mod checker;
pub(crate) mod dispatcher;
pub(crate) mod event;
pub(crate) mod hold;
pub(crate) mod identity;
pub(crate) mod links;
pub(crate) mod load;
pub(crate) mod memory;
pub(crate) mod own_redis;
pub(crate) mod producer;
pub(crate) mod raw_amqp;
pub(crate) mod recorder;
pub(crate) mod relay;
pub(crate) mod stack;
pub(crate) mod world;

pub(crate) use dispatcher::Dispatcher;
pub(crate) use event::Event;
pub(crate) use load::{Load, Plan};
pub(crate) use producer::{Producer, Request};
pub(crate) use recorder::{Recorder, Sighting};
pub(crate) use world::World;

use std::time::{Duration, Instant};

/// Longer than anything that works takes here on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `look` finds something; fails with `what` after [`PATIENCE`].
pub(crate) async fn eventually<T, F: AsyncFnMut() -> Option<T>>(what: &str, mut look: F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
