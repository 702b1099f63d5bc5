//! Values in the process's own memory. Redis is asked whether it still has them, and then its answer need not be read beyond
//! the header, which names the digest of what follows it. For `cache.hot_ttl` after that it is not even asked.
//!
//! It only ever answers "hit": where it has nothing usable Redis is asked, so that nothing is run again because of what
//! stands here. A value that others replace or remove is served until its `cache.hot_ttl` is over.

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
    /// In bytes. Of a larger result its event only says where it is: there it must be as it should.
    largest: u64,
    /// How often a value was dropped.
    drops: AtomicU64,
}

#[derive(Clone)]
struct Held {
    entry: Arc<Entry>,
    /// What its value begins with, up to the end of the header.
    head: Arc<[u8]>,
    /// Until then Redis is not asked.
    until: Instant,
}

#[derive(Clone)]
struct Weight;

impl Weighter<RequestKey, Held> for Weight {
    fn weight(&self, _: &RequestKey, held: &Held) -> u64 {
        (held.entry.payload.bytes.len() + held.head.len()) as u64 + OVERHEAD
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
    pub(super) fn new(budget: u64, ttl: Duration, largest: u64) -> Self {
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
        Self { values, ttl, largest, drops: AtomicU64::new(0) }
    }

    /// A value of which Redis need not be asked.
    pub(super) fn get(&self, key: &RequestKey, now: Instant) -> Option<Arc<Entry>> {
        if self.ttl.is_zero() {
            return None;
        }
        let held = self.values.as_ref()?.get(key)?;
        (now < held.until).then_some(held.entry)
    }

    pub(super) fn mark(&self, now: Instant) -> Mark {
        Mark { drops: self.drops.load(Ordering::SeqCst), at: now }
    }

    /// The value of `key`, where Redis had one after `mark` that begins like it, up to the end of the header.
    pub(super) fn again(&self, mark: Mark, key: &RequestKey, start: &[u8]) -> Option<Arc<Entry>> {
        let held = self.values.as_ref()?.get(key).filter(|held| start.starts_with(&held.head))?;
        if !self.ttl.is_zero() {
            self.put(mark, &held.entry, Arc::clone(&held.head));
        }
        Some(held.entry)
    }

    /// Holds what Redis had after `mark`.
    pub(super) fn put(&self, mark: Mark, entry: &Arc<Entry>, head: impl Into<Arc<[u8]>>) {
        let Some(values) = &self.values else { return };
        if entry.payload.bytes.len() as u64 > self.largest {
            return;
        }
        let held = Held { entry: Arc::clone(entry), head: head.into(), until: mark.at + self.ttl };
        values.insert(entry.key, held);
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

    const HEAD: &[u8] = b"head\n";
    const LARGEST: u64 = 100_000;

    fn entry(number: usize, bytes: usize) -> Arc<Entry> {
        Arc::new(Entry {
            key: RequestKey::from_hex(&format!("{number:064x}")).unwrap(),
            template: None,
            job: JobInfo { namespace: "work".into(), name: "jq-t-x".into(), uid: "u".into(), attempts: 1 },
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            payload: Payload::new(vec![b'x'; bytes]),
        })
    }

    #[test]
    fn a_value_is_held_for_the_ttl_from_before_it_was_read() {
        let (hot, begun, entry) = (Hot::new(1 << 20, TTL, LARGEST), Instant::now(), entry(1, 10));
        assert!(hot.get(&entry.key, begun).is_none());
        hot.put(hot.mark(begun), &entry, HEAD);
        assert_eq!(hot.get(&entry.key, begun + TTL - Duration::from_nanos(1)), Some(Arc::clone(&entry)));
        assert!(hot.get(&entry.key, begun + TTL).is_none());
    }

    #[test]
    fn a_value_that_is_replaced_is_dropped_also_while_it_is_being_read() {
        let (hot, now, entry) = (Hot::new(1 << 20, TTL, LARGEST), Instant::now(), entry(1, 10));
        hot.put(hot.mark(now), &entry, HEAD);
        hot.drop_value(&entry.key);
        assert!(hot.get(&entry.key, now).is_none());
        let mark = hot.mark(now);
        hot.drop_value(&entry.key);
        hot.put(mark, &entry, HEAD);
        assert!(hot.get(&entry.key, now).is_none(), "what was read may be the value before");
        hot.put(hot.mark(now), &entry, HEAD);
        assert!(hot.get(&entry.key, now).is_some());
    }

    #[test]
    fn it_stays_within_its_budget_and_without_one_holds_nothing() {
        let now = Instant::now();
        let held = |hot: &Hot| (0..100).filter(|number| hot.get(&entry(*number, 0).key, now).is_some()).count();
        let hot = Hot::new(20_480, TTL, LARGEST);
        for number in 0..100 {
            hot.put(hot.mark(now), &entry(number, 1024), HEAD);
            assert!(hot.values.as_ref().unwrap().weight() <= 20_480, "after {number}");
        }
        assert!((5..=10).contains(&held(&hot)), "{} of 2 KiB", held(&hot));
        hot.put(hot.mark(now), &entry(7, 65_536), HEAD);
        assert!(hot.get(&entry(7, 0).key, now).is_none(), "larger than the budget");
        let off = Hot::new(0, TTL, LARGEST);
        off.put(off.mark(now), &entry(1, 10), HEAD);
        assert_eq!(held(&off), 0);
    }

    #[test]
    fn a_value_is_known_again_by_its_whole_header_and_nothing_less() {
        let (hot, now, entry) = (Hot::new(1 << 20, Duration::ZERO, LARGEST), Instant::now(), entry(1, 10));
        let again = |start: &[u8]| hot.again(hot.mark(now), &entry.key, start);
        assert_eq!(again(b"head\nand what follows"), None);
        hot.put(hot.mark(now), &entry, HEAD);
        assert!(hot.get(&entry.key, now).is_none(), "unasked");
        assert_eq!(again(b"head\nand what follows"), Some(Arc::clone(&entry)));
        for other in [&b""[..], b"head", b"heat\nand what follows"] {
            assert_eq!(again(other), None);
        }
        hot.drop_value(&entry.key);
        assert_eq!(again(b"head\n"), None);
    }

    #[test]
    fn a_result_that_an_event_only_refers_to_is_not_held() {
        let (hot, now) = (Hot::new(1 << 20, Duration::ZERO, 10), Instant::now());
        for (number, bytes) in [(1, 10), (2, 11)] {
            let entry = entry(number, bytes);
            hot.put(hot.mark(now), &entry, HEAD);
            assert_eq!(hot.again(hot.mark(now), &entry.key, HEAD).is_some(), bytes == 10);
        }
    }

    #[test]
    fn a_value_that_is_replaced_while_redis_says_that_it_has_it_is_held_no_longer() {
        let (hot, now, entry) = (Hot::new(1 << 20, TTL, LARGEST), Instant::now(), entry(1, 10));
        hot.put(hot.mark(now), &entry, HEAD);
        let mark = hot.mark(now);
        hot.drop_value(&self::entry(2, 10).key);
        assert!(hot.again(mark, &entry.key, HEAD).is_some(), "it was there when Redis was asked");
        assert!(hot.get(&entry.key, now).is_none(), "which of them was replaced is not known");
    }

    #[test]
    fn a_value_that_redis_still_has_is_held_for_another_ttl() {
        let (hot, begun, entry) = (Hot::new(1 << 20, TTL, LARGEST), Instant::now(), entry(1, 10));
        hot.put(hot.mark(begun), &entry, HEAD);
        let later = begun + TTL;
        assert!(hot.get(&entry.key, later).is_none());
        assert_eq!(hot.again(hot.mark(later), &entry.key, HEAD), Some(Arc::clone(&entry)));
        assert_eq!(hot.get(&entry.key, later + TTL / 2), Some(entry));
    }
}
