//! The counters and gauges. Label values are fixed words of the code, so their number is bounded.

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::health::Health;

type Label = (&'static str, &'static str);
/// A counter with one label.
pub type ByOne = Family<[Label; 1], Counter>;
/// A counter with two labels.
pub type ByTwo = Family<[Label; 2], Counter>;

/// A gauge for each lane of the configuration.
pub type ByLane = Family<[(&'static str, String); 1], Gauge>;

/// Every metric of the process.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub received: Counter,
    pub redelivered: Counter,
    /// By `outcome` and `served_by`.
    pub finished: ByTwo,
    /// By `result`: hit, hot (without Redis), miss, stale; and why a miss was one without a look at a value: error, skipped.
    pub cache_lookups: ByOne,
    /// By `reason`: size, version, signature, header, key, bytes.
    pub cache_invalid: ByOne,
    /// By `result`: stored, kept (another value was first), too_large, error, skipped.
    pub cache_stores: ByOne,
    /// Requests that were put into a lane.
    pub parked: Counter,
    /// Slots taken, by `lane`.
    pub slots_taken: ByLane,
    /// Requests of a lane that wait in this process, by `lane`.
    pub lane_waiting: ByLane,
    pub jobs_open: Gauge,
    pub jobs_created: Counter,
    pub jobs_joined: Counter,
    /// By `kind`: what stood in the way of a create, or made a patch fail.
    pub conflicts: ByOne,
    /// By `result`: delivered, returned, refused, unconfirmed.
    pub events_published: ByOne,
    pub undeliverable: Counter,
    pub dead: Counter,
    pub poisoned: Counter,
    pub undecodable_waiters: Counter,
    /// What was noted of requests, by `result`: written, dropped, error.
    pub status_notes: ByOne,
    /// By `edge`.
    pub reconnects: ByOne,
    pub panics: Counter,
    /// Dispatchers alive, this one included.
    pub members: Gauge,
    pub shards_owned: Gauge,
    /// By `direction`: gained, lost.
    pub shard_moves: ByOne,
    /// In use.
    pub templates: Gauge,
    /// Files that are not used as they are.
    pub templates_unusable: Gauge,
    /// 1 while the policy file is not used as it is.
    pub policy_unusable: Gauge,
    /// By `result`: loaded, refused, removed; one for each file that changed.
    pub reloads: ByOne,
}

impl Metrics {
    pub fn count(family: &ByOne, name: &'static str, value: &'static str) {
        family.get_or_create(&[(name, value)]).inc();
    }

    pub fn finished(&self, outcome: &'static str, served_by: &'static str) {
        self.finished.get_or_create(&[("outcome", outcome), ("served_by", served_by)]).inc();
    }
}

/// What `/metrics` shows.
#[derive(Debug, Clone)]
pub struct Exposition {
    registry: Arc<Registry>,
    since_watch_event: Gauge<f64, std::sync::atomic::AtomicU64>,
    health: Health,
}

impl Exposition {
    pub fn new(metrics: &Metrics, health: Health) -> Self {
        let mut registry = Registry::with_prefix("jobquay");
        let m = metrics.clone();
        registry.register("requests_received", "Requests taken off the queue", m.received);
        registry.register("redeliveries", "Requests that the broker delivered again", m.redelivered);
        registry.register("requests_finished", "Terminal events that were confirmed", m.finished);
        registry.register("cache_lookups", "Lookups in the result cache", m.cache_lookups);
        registry.register("cache_invalid", "Cached values that do not verify, and so are no results", m.cache_invalid);
        registry.register("cache_stores", "Results offered to the result cache", m.cache_stores);
        registry.register("requests_parked", "Requests that found no slot and wait in their lane", m.parked);
        registry.register("slots_taken", "Jobs alive or being created, by lane", m.slots_taken);
        registry.register("lane_waiting", "Requests of a lane that wait here for a slot", m.lane_waiting);
        registry.register("jobs_open", "Jobs that still owe answers, at the last look", m.jobs_open);
        registry.register("jobs_created", "Jobs created", m.jobs_created);
        registry.register("jobs_joined", "Requests that joined a Job that was there", m.jobs_joined);
        registry.register("conflicts", "Creates and patches that met another state than expected", m.conflicts);
        registry.register("events_published", "Messages by what the broker said to them", m.events_published);
        registry.register("events_undeliverable", "Events whose reply queue did not take them", m.undeliverable);
        registry.register("requests_dead", "Messages put into the dead queue", m.dead);
        registry.register(
            "requests_poisoned",
            "Requests that the broker gave up after too many deliveries",
            m.poisoned,
        );
        registry.register("undecodable_waiters", "Waiters on Jobs that could not be read", m.undecodable_waiters);
        registry.register("status_notes", "Notes of what becomes of requests", m.status_notes);
        registry.register("reconnects", "Sessions that had to be built anew", m.reconnects);
        registry.register("panics", "Requests and tasks that panicked", m.panics);
        registry.register("members", "Dispatchers alive, as this one sees it", m.members);
        registry.register("shards_owned", "Shards whose Jobs this dispatcher completes", m.shards_owned);
        registry.register("shard_moves", "Shards that came to or went from this dispatcher", m.shard_moves);
        registry.register("templates", "Templates in use", m.templates);
        registry.register("templates_unusable", "Template files not used as they are", m.templates_unusable);
        registry.register("policy_unusable", "Whether the policy file is not used as it is", m.policy_unusable);
        registry.register("reloads", "Changed files of templates and policies", m.reloads);
        let since_watch_event = Gauge::default();
        registry.register(
            "seconds_since_watch_event",
            "Time since the watch on Jobs said anything",
            since_watch_event.clone(),
        );
        registry.register("build", "The running build", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        Self { registry: Arc::new(registry), since_watch_event, health }
    }

    /// The OpenMetrics text.
    pub fn text(&self) -> String {
        self.since_watch_event.set(self.health.since_watch_event().as_secs_f64());
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_follow_the_conventions() {
        let metrics = Metrics::default();
        metrics.received.inc();
        metrics.finished("succeeded", "cache");
        let text = Exposition::new(&metrics, Health::default()).text();
        for line in [
            "jobquay_requests_received_total 1",
            "jobquay_requests_finished_total{outcome=\"succeeded\",served_by=\"cache\"} 1",
            concat!("jobquay_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
