//! What a process holds over a run, memory and descriptors, and how long its hits take.

use std::time::{Duration, Instant};

use super::{DRIFT, LONG, NO_DRIFT};
use crate::support::Dispatcher;

/// More than this is a leak, or may as well be one.
const GROWTH_KIB: u64 = 16 << 10;
/// Beyond the most that it had early: connections that are being made anew.
const SPARE_DESCRIPTORS: usize = 32;
/// Connections to the API server: a call each of the requests in hand and of the completions at work. Behind a proxy that
/// speaks HTTP/1 each call has a connection of its own, and the client lets go of idle ones only when it looks for one.
const CALLS_AT_ONCE: usize = 256 + 32;
/// What memory may seem to grow by, by the line through its samples, while faults make it rise and fall.
const SLOPE_KIB: f64 = (8 << 10) as f64;
/// How long it may take to let go.
const SETTLING: Duration = Duration::from_secs(120);

pub(super) struct Vitals {
    api_port: u16,
    samples: Vec<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    memory_kib: u64,
    /// Without connections to the API server.
    descriptors: usize,
    /// Connections to it.
    calls: usize,
}

impl Vitals {
    pub(super) fn new(api_port: u16) -> Self {
        Self { api_port, samples: Vec::new() }
    }

    pub(super) fn note(&mut self, at: Duration, process: &Dispatcher) {
        let sample = self.look(at, process);
        self.samples.push(sample);
    }

    fn look(&self, at: Duration, process: &Dispatcher) -> Sample {
        let calls = process.connections_to(self.api_port);
        let descriptors = process.descriptors().saturating_sub(calls);
        Sample { at, memory_kib: process.memory_kib(), descriptors, calls }
    }

    /// A process holds no more at the end than the one that was followed did in the first half of the run, and that one
    /// does not grow.
    pub(super) async fn judge(self, seed: u64, length: Duration, processes: &[Dispatcher]) -> Option<String> {
        let (bounds, begun) = (Bounds::of(&self.samples), Instant::now());
        println!("seed {seed}: {bounds:.0?}");
        // In a short run a crowd near its end is all that the line follows.
        let mut wrong: Vec<_> = (length >= LONG).then(|| bounds.growth()).flatten().into_iter().collect();
        for process in processes {
            let mut held = self.look(begun.elapsed(), process);
            while bounds.excess(&held).is_some() && begun.elapsed() < SETTLING {
                tokio::time::sleep(Duration::from_secs(1)).await;
                held = self.look(begun.elapsed(), process);
            }
            println!("seed {seed}: at the end {held:.0?}");
            wrong.extend(bounds.excess(&held));
        }
        (!wrong.is_empty()).then(|| wrong.join("\n"))
    }
}

/// What a run has shown, and what may so be held at its end.
#[derive(Debug)]
struct Bounds {
    memory_kib: u64,
    descriptors: usize,
    /// In this time, which is what was not needed to warm up.
    growth_kib: f64,
    length: Duration,
}

impl Bounds {
    fn of(samples: &[Sample]) -> Self {
        let warm = &samples[samples.len() / 4..];
        let early = &samples[..samples.len().div_ceil(2)];
        let (Some(first), Some(last)) = (warm.first(), warm.last()) else { panic!("nobody has looked") };
        let length = last.at - first.at;
        Self {
            memory_kib: early.iter().map(|sample| sample.memory_kib).max().unwrap_or_default(),
            descriptors: early.iter().map(|sample| sample.descriptors).max().unwrap_or_default(),
            growth_kib: slope(warm) * length.as_secs_f64(),
            length,
        }
    }

    fn growth(&self) -> Option<String> {
        let Self { growth_kib, length, .. } = self;
        (*growth_kib > SLOPE_KIB).then(|| format!("memory grew by {growth_kib:.0} KiB in {length:.0?}"))
    }

    /// What is held too much of at the end.
    fn excess(&self, held: &Sample) -> Option<String> {
        let leaks = held.descriptors > self.descriptors + SPARE_DESCRIPTORS || held.calls > CALLS_AT_ONCE;
        let is_too_much = held.memory_kib > self.memory_kib + GROWTH_KIB || leaks;
        is_too_much.then(|| format!("at the end {held:.0?}, where the run had {self:.0?}"))
    }
}

/// Whether hits have come to take longer, by how long they took in each quarter of a long run; one without any says nothing.
pub(super) fn drift(hits: &[Option<Duration>; 4]) -> Option<String> {
    let drifts = |early: Duration, late: Duration| late > NO_DRIFT && late > early * DRIFT;
    hits[1].zip(hits[3]).is_none_or(|(early, late)| drifts(early, late)).then(|| format!("hits by quarter {hits:?}"))
}

/// KiB a second, by least squares.
fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let mean = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (time, memory) = (|sample: &Sample| sample.at.as_secs_f64(), |sample: &Sample| sample.memory_kib as f64);
    let (mid_time, mid_memory) = (mean(&time), mean(&memory));
    let shared: f64 = samples.iter().map(|sample| (time(sample) - mid_time) * (memory(sample) - mid_memory)).sum();
    let spread: f64 = samples.iter().map(|sample| (time(sample) - mid_time).powi(2)).sum();
    shared / spread
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One look a minute, for an hour.
    fn hour(memory_kib: impl Fn(u64) -> u64) -> Vec<Sample> {
        let look = |minute| sample(minute, memory_kib(minute));
        (0..60).map(look).collect()
    }

    fn sample(minute: u64, memory_kib: u64) -> Sample {
        Sample { at: Duration::from_secs(60 * minute), memory_kib, descriptors: 40, calls: 10 }
    }

    /// It rises and falls, and is at most 51 000 KiB.
    fn steady() -> Bounds {
        Bounds::of(&hour(|minute| 50_000 + minute % 5 * 250))
    }

    #[test]
    fn who_holds_no_more_than_early_is_well_and_so_is_who_holds_what_is_spared_it() {
        let (bounds, held) = (steady(), sample(60, 51_000));
        assert_eq!((bounds.memory_kib, bounds.descriptors), (51_000, 40));
        assert_eq!(bounds.growth(), None);
        assert_eq!(bounds.excess(&held), None);
        let most = Sample { memory_kib: 51_000 + GROWTH_KIB, descriptors: 72, calls: 288, ..held };
        assert_eq!(bounds.excess(&most), None);
    }

    #[test]
    fn who_holds_more_memory_at_the_end_is_told() {
        let held = sample(60, 51_000 + GROWTH_KIB + 1);
        assert!(steady().excess(&held).is_some_and(|what| what.contains("memory_kib: 67385")));
    }

    #[test]
    fn who_has_not_let_go_of_descriptors_or_calls_is_told() {
        let held = sample(60, 51_000);
        assert!(steady().excess(&Sample { descriptors: 73, ..held }).is_some());
        assert!(steady().excess(&Sample { calls: 289, ..held }).is_some());
    }

    #[test]
    fn memory_that_rises_all_the_time_is_told_though_little_is_held_at_the_end() {
        // Over the 44 minutes after the first quarter 200 KiB a minute are 8800 KiB, and the bound is 8192.
        let bounds = Bounds::of(&hour(|minute| 50_000 + minute * 200));
        assert_eq!(bounds.growth().as_deref(), Some("memory grew by 8800 KiB in 2640s"));
        assert_eq!(bounds.excess(&sample(60, 50_000)), None);
        assert_eq!(Bounds::of(&hour(|minute| 50_000 + minute * 180)).growth(), None);
    }

    #[test]
    fn memory_that_rises_in_the_first_quarter_or_falls_does_not_grow() {
        assert_eq!(Bounds::of(&hour(|minute| 30_000 + minute.min(15) * 2_000)).growth(), None);
        assert_eq!(Bounds::of(&hour(|minute| 90_000 - minute * 500)).growth(), None);
    }

    #[test]
    fn hits_that_come_to_take_more_than_four_times_as_long_have_drifted_unless_they_are_quick_still() {
        let quarters = |early: u64, late: u64| [900, early, early, late].map(Duration::from_millis).map(Some);
        assert!(drift(&quarters(100, 401)).is_some_and(|what| what.contains("401ms")));
        assert_eq!(drift(&quarters(100, 400)), None);
        assert_eq!(drift(&quarters(10, 250)), None);
        assert!(drift(&quarters(10, 251)).is_some());
        assert!(drift(&[None, None, None, Some(Duration::ZERO)]).is_some(), "nothing to compare with");
    }
}
