//! What a process holds over a run: memory and descriptors.

use std::time::Duration;

use crate::support::Dispatcher;

/// More than this is a leak, or may as well be one.
const GROWTH_KIB: u64 = 32 << 10;
/// Beyond the most that it had early: a call each of the requests in hand and of the completions at work. Behind a proxy
/// that speaks HTTP/1 each call has a connection of its own, and the client lets go of idle ones only when it looks for one.
const SPARE_DESCRIPTORS: usize = 256 + 32;
/// How long it may take to let go.
const SETTLING: Duration = Duration::from_secs(120);

#[derive(Default)]
pub(super) struct Vitals(Vec<Sample>);

#[derive(Clone, Copy)]
struct Sample {
    at: Duration,
    memory_kib: u64,
    descriptors: usize,
}

impl Vitals {
    pub(super) fn note(&mut self, at: Duration, process: &Dispatcher) {
        self.0.push(Sample { at, memory_kib: process.memory_kib(), descriptors: process.descriptors() });
    }

    /// A process holds no more at the end than it did in the first half of the run.
    pub(super) async fn judge(self, seed: u64, process: &Dispatcher) -> Option<String> {
        let warm = &self.0[self.0.len() / 4..];
        let early = &self.0[..self.0.len().div_ceil(2)];
        let memory = early.iter().map(|sample| sample.memory_kib).max()?;
        let descriptors = early.iter().map(|sample| sample.descriptors).max()?;
        let begun = std::time::Instant::now();
        loop {
            let (now, open) = (process.memory_kib(), process.descriptors());
            let wrong = now > memory + GROWTH_KIB || open > descriptors + SPARE_DESCRIPTORS;
            if !wrong || begun.elapsed() > SETTLING {
                let figures = format!(
                    "seed {seed}: at most {memory} KiB and {descriptors} descriptors in the first half, {now} and {open} at the end; {:+.0} KiB an hour",
                    slope(warm) * 3600.0
                );
                println!("{figures}");
                return wrong.then_some(figures);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
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
