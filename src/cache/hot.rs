//! A few values in the process's own memory, so that what is asked for most needs no Redis.
//!
//! It only ever answers "hit": where it has nothing usable Redis is asked, so that nothing is run again
//! because of what stands here. A value that others replace or remove is served until its time here is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::Entry;
use crate::domain::key::RequestKey;

/// What a value takes beside its bytes: its names, and its place in the table.
const OVERHEAD: u64 = 1024;

pub(super) struct Hot {
    /// `None` is off.
    values: Option<Cache<RequestKey, Held, Weight>>,
    ttl: Duration,
    /// How often a value was dropped.
    drops: AtomicU64,
}

#[derive(Clone)]
struct Held {
    entry: Arc<Entry>,
    until: Instant,
}

#[derive(Clone)]
struct Weight;

impl Weighter<RequestKey, Held> for Weight {
    fn weight(&self, _: &RequestKey, held: &Held) -> u64 {
        held.entry.payload.bytes.len() as u64 + OVERHEAD
    }
}

/// The moment before a look at Redis, from which what was found there may be held.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    drops: u64,
    at: Instant,
}

impl Hot {
    /// Of at most `budget` bytes; 0 switches it off.
    pub(super) fn new(budget: u64, ttl: Duration) -> Self {
        let values = (budget > 0).then(|| {
            let options = OptionsBuilder::new()
                // Shards would split the budget, and with it what fits.
                .shards(1)
                .weight_capacity(budget)
                .estimated_items_capacity(usize::try_from(budget / (8 * OVERHEAD)).unwrap_or(usize::MAX).clamp(1, 4096))
                .build()
                .expect("both capacities are given");
            Cache::with_options(options, Weight, DefaultHashBuilder::default(), DefaultLifecycle::default())
        });
        Self { values, ttl, drops: AtomicU64::new(0) }
    }

    pub(super) fn get(&self, key: &RequestKey, now: Instant) -> Option<Arc<Entry>> {
        let held = self.values.as_ref()?.get(key)?;
        (now < held.until).then_some(held.entry)
    }

    pub(super) fn mark(&self, now: Instant) -> Mark {
        Mark { drops: self.drops.load(Ordering::SeqCst), at: now }
    }

    /// Holds what Redis had after `mark`.
    pub(super) fn put(&self, mark: Mark, entry: &Arc<Entry>) {
        let Some(values) = &self.values else { return };
        values.insert(entry.key, Held { entry: Arc::clone(entry), until: mark.at + self.ttl });
        // A drop counts first and removes then: one that removed before the insert is seen here.
        if self.drops.load(Ordering::SeqCst) != mark.drops {
            values.remove(&entry.key);
        }
    }

    /// Drops the value of `key`, also where it is being read from Redis at this moment.
    pub(super) fn drop_value(&self, key: &RequestKey) {
        let Some(values) = &self.values else { return };
        self.drops.fetch_add(1, Ordering::SeqCst);
        values.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::event::JobInfo;
    use crate::domain::outcome::Payload;

    const TTL: Duration = Duration::from_secs(1);

    fn entry(number: usize, bytes: usize) -> Arc<Entry> {
        Arc::new(Entry {
            key: RequestKey::from_hex(&format!("{number:064x}")).unwrap(),
            job: JobInfo { namespace: "work".into(), name: "jq-t-x".into(), uid: "u".into(), attempts: 1 },
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            payload: Payload::new(vec![b'x'; bytes]),
        })
    }

    #[test]
    fn a_value_is_held_for_the_ttl_from_before_it_was_read() {
        let (hot, begun, entry) = (Hot::new(1 << 20, TTL), Instant::now(), entry(1, 10));
        assert!(hot.get(&entry.key, begun).is_none());
        hot.put(hot.mark(begun), &entry);
        assert_eq!(hot.get(&entry.key, begun + TTL - Duration::from_nanos(1)), Some(Arc::clone(&entry)));
        assert!(hot.get(&entry.key, begun + TTL).is_none());
    }

    #[test]
    fn a_value_that_is_replaced_is_dropped_also_while_it_is_being_read() {
        let (hot, now, entry) = (Hot::new(1 << 20, TTL), Instant::now(), entry(1, 10));
        hot.put(hot.mark(now), &entry);
        hot.drop_value(&entry.key);
        assert!(hot.get(&entry.key, now).is_none());
        let mark = hot.mark(now);
        hot.drop_value(&entry.key);
        hot.put(mark, &entry);
        assert!(hot.get(&entry.key, now).is_none(), "what was read may be the value before");
        hot.put(hot.mark(now), &entry);
        assert!(hot.get(&entry.key, now).is_some());
    }

    #[test]
    fn it_stays_within_its_budget_and_without_one_holds_nothing() {
        let now = Instant::now();
        let held = |hot: &Hot| (0..100).filter(|number| hot.get(&entry(*number, 0).key, now).is_some()).count();
        let hot = Hot::new(20_480, TTL);
        for number in 0..100 {
            hot.put(hot.mark(now), &entry(number, 1024));
            assert!(hot.values.as_ref().unwrap().weight() <= 20_480, "after {number}");
        }
        assert!((5..=10).contains(&held(&hot)), "{} of 2 KiB", held(&hot));
        hot.put(hot.mark(now), &entry(7, 65_536));
        assert!(hot.get(&entry(7, 0).key, now).is_none(), "larger than the budget");
        let off = Hot::new(0, TTL);
        off.put(off.mark(now), &entry(1, 10));
        assert_eq!(held(&off), 0);
    }
}
