//! Whether each edge does its work; written by the edges, read by the probes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Shared by all edges of one process.
#[derive(Debug, Clone)]
pub struct Health(Arc<State>);

#[derive(Debug)]
struct State {
    started: Instant,
    consumer: AtomicBool,
    publisher: AtomicBool,
    watch: AtomicBool,
    cache: AtomicBool,
    draining: AtomicBool,
    /// Milliseconds after `started`.
    last_watch_event: AtomicU64,
    /// When the watch on each namespace failed that has shown nothing since.
    failing_watches: Mutex<BTreeMap<String, Instant>>,
    problems: Mutex<Vec<String>>,
    share: Mutex<ShareOfWork>,
}

/// A watch that fails fails again within its longest backoff; one that was silent for longer lives.
const WATCH_ERROR_COUNTS: Duration = Duration::from_secs(35);

/// One line of `/readyz?verbose`.
#[derive(Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub state: &'static str,
    /// Whether readiness fails with it.
    pub failed: bool,
}

/// An edge that is there or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The consumer is registered with the broker.
    Consumer,
    /// The confirm channel is open.
    Publisher,
    /// The watch on Jobs has listed.
    Watch,
    /// Redis answered last.
    Cache,
}

/// How the dispatchers share the work, as this one sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct ShareOfWork {
    pub members: u32,
    /// This one's.
    pub shards: u32,
    /// How many came since the start, and how many went.
    pub gained: u64,
    pub lost: u64,
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(State {
            started: Instant::now(),
            consumer: AtomicBool::new(false),
            publisher: AtomicBool::new(false),
            watch: AtomicBool::new(false),
            cache: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            last_watch_event: AtomicU64::new(0),
            failing_watches: Mutex::default(),
            problems: Mutex::default(),
            share: Mutex::default(),
        }))
    }
}

impl Health {
    pub fn set(&self, edge: Edge, up: bool) {
        self.flag(edge).store(up, Ordering::Relaxed);
    }

    pub fn is_up(&self, edge: Edge) -> bool {
        self.flag(edge).load(Ordering::Relaxed)
    }

    /// Files of the operator that are not used as they are. That is no reason to take a dispatcher out: the
    /// last good ones are.
    pub fn set_problems(&self, problems: Vec<String>) {
        *self.0.problems.lock().expect("nobody panics with it") = problems;
    }

    pub fn problems(&self) -> Vec<String> {
        self.0.problems.lock().expect("nobody panics with it").clone()
    }

    /// Notes how many dispatchers there are, how many shards are this one's, and how many came and went just now.
    pub fn shares(&self, members: u32, shards: u32, gained: u32, lost: u32) {
        let mut share = self.0.share.lock().expect("nobody panics with it");
        let (gained, lost) = (share.gained + u64::from(gained), share.lost + u64::from(lost));
        *share = ShareOfWork { members, shards, gained, lost };
    }

    pub fn share(&self) -> ShareOfWork {
        *self.0.share.lock().expect("nobody panics with it")
    }

    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    pub fn watch_event(&self, namespace: &str) {
        let since_start = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_watch_event.store(since_start, Ordering::Relaxed);
        self.0.failing_watches.lock().expect("nobody panics with it").remove(namespace);
    }

    pub fn watch_error(&self, namespace: &str) {
        let mut failing = self.0.failing_watches.lock().expect("nobody panics with it");
        failing.insert(namespace.to_owned(), Instant::now());
    }

    /// Every namespace was listed once, and none has failed of late. A watch that was opened again says nothing until
    /// something happens, so this cannot wait for an event.
    fn is_watching(&self) -> bool {
        let failing = self.0.failing_watches.lock().expect("nobody panics with it");
        self.is_up(Edge::Watch) && failing.values().all(|failed| failed.elapsed() > WATCH_ERROR_COUNTS)
    }

    pub fn since_watch_event(&self) -> Duration {
        let last = Duration::from_millis(self.0.last_watch_event.load(Ordering::Relaxed));
        self.0.started.elapsed().saturating_sub(last)
    }

    /// A dispatcher without Redis is slower and not wrong, so that is no reason to take it out.
    pub fn checks(&self) -> Vec<Check> {
        let up = |name, edge, word| {
            let up = self.is_up(edge);
            Check { name, state: if up { word } else { "down" }, failed: !up }
        };
        let cache = if self.is_up(Edge::Cache) { "up" } else { "degraded" };
        let draining = self.0.draining.load(Ordering::Relaxed);
        vec![
            up("consumer", Edge::Consumer, "registered"),
            up("publisher", Edge::Publisher, "open"),
            Check {
                name: "watch",
                state: if self.is_watching() { "alive" } else { "down" },
                failed: !self.is_watching(),
            },
            Check { name: "redis", state: cache, failed: false },
            Check { name: "shutdown", state: if draining { "draining" } else { "not asked for" }, failed: draining },
        ]
    }

    fn flag(&self, edge: Edge) -> &AtomicBool {
        match edge {
            Edge::Consumer => &self.0.consumer,
            Edge::Publisher => &self.0.publisher,
            Edge::Watch => &self.0.watch,
            Edge::Cache => &self.0.cache,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_needs_every_edge_but_redis() {
        let health = Health::default();
        let ready = |health: &Health| health.checks().iter().all(|check| !check.failed);
        assert!(!ready(&health));
        for edge in [Edge::Consumer, Edge::Publisher, Edge::Watch] {
            health.set(edge, true);
        }
        assert!(ready(&health), "without Redis");
        health.watch_error("media");
        health.watch_event("work");
        assert!(!ready(&health), "the watch on one namespace has failed just now");
        health.watch_event("media");
        assert!(ready(&health));
        health.drain();
        assert!(!ready(&health), "draining");
    }
}
