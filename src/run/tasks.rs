//! The long-lived tasks by name, and their end.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::telemetry::chain;

/// The task that answers the probes.
pub(super) const HTTP: &str = "http";

/// The long-lived tasks. Intake and completion hold the only handles of the publisher and the joiner,
/// so these two end by themselves once the former have: with nothing left to publish.
#[derive(Default)]
pub(super) struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits for one to end, whichever way; `None` when there is none.
    async fn next_end(&mut self) -> Option<&'static str> {
        let id = match self.set.join_next_with_id().await? {
            Ok((id, ())) => id,
            Err(error) => {
                error!(error = chain(&error), "a task died");
                error.id()
            }
        };
        Some(self.names.remove(&id).unwrap_or("unknown"))
    }

    pub(super) async fn first_end(&mut self) -> &'static str {
        match self.next_end().await {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }

    /// Waits until all have ended, the probes last; after `grace` what is left is dropped, and the
    /// broker hands it to someone else.
    pub(super) async fn drain(&mut self, closed: &CancellationToken, grace: Duration) {
        let all = async {
            while self.names.values().any(|name| *name != HTTP) {
                self.next_end().await;
            }
            closed.cancel();
            while self.next_end().await.is_some() {}
        };
        if tokio::time::timeout(grace, all).await.is_err() {
            warn!(?grace, left = ?self.names.values(), "the grace is over; what is left is handed back by the broker");
        } else {
            info!("stopped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_lived_task_that_ends_or_dies_is_named() {
        for task in ["returns", "panics"] {
            let mut tasks = Tasks::default();
            tasks.spawn("steady", std::future::pending());
            tasks.spawn(task, async move { assert_eq!(task, "returns") });
            assert_eq!(tasks.first_end().await, task);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_all_but_not_beyond_the_grace_and_closes_the_probes_last() {
        let (closed, begun) = (CancellationToken::new(), tokio::time::Instant::now());
        let mut tasks = Tasks::default();
        tasks.spawn(HTTP, closed.clone().cancelled_owned());
        tasks.spawn("work", tokio::time::sleep(Duration::from_secs(3)));
        tasks.drain(&closed, Duration::from_secs(10)).await;
        assert_eq!((begun.elapsed(), tasks.names.len()), (Duration::from_secs(3), 0));
        tasks.spawn("stuck", std::future::pending());
        tasks.drain(&closed, Duration::from_secs(10)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(13));
    }
}
