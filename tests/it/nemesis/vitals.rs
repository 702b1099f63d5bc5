//! What a process holds over a run: memory and descriptors.

use std::time::Duration;

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

#[derive(Clone, Copy)]
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
    pub(super) async fn judge(self, seed: u64, processes: &[Dispatcher]) -> Option<String> {
        let warm = &self.samples[self.samples.len() / 4..];
        let early = &self.samples[..self.samples.len().div_ceil(2)];
        let memory = early.iter().map(|sample| sample.memory_kib).max()?;
        let descriptors = early.iter().map(|sample| sample.descriptors).max()?;
        let length = warm.last()?.at - warm.first()?.at;
        let (growth, begun) = (slope(warm) * length.as_secs_f64(), std::time::Instant::now());
        println!(
            "seed {seed}: at most {memory} KiB and {descriptors} descriptors in the first half, {growth:+.0} KiB in the last \
             {length:.0?}"
        );
        let grows = growth > SLOPE_KIB;
        let mut wrong: Vec<_> =
            grows.then(|| format!("memory grew by {growth:.0} KiB in {length:.0?}")).into_iter().collect();
        for process in processes {
            loop {
                let now = self.look(begun.elapsed(), process);
                let leaks = now.descriptors > descriptors + SPARE_DESCRIPTORS || now.calls > CALLS_AT_ONCE;
                let holds_too_much = now.memory_kib > memory + GROWTH_KIB || leaks;
                if holds_too_much && begun.elapsed() < SETTLING {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
                let Sample { memory_kib, descriptors, calls, .. } = now;
                let held = format!(
                    "seed {seed}: at the end {memory_kib} KiB, {descriptors} descriptors, {calls} connections to the API server"
                );
                println!("{held}");
                wrong.extend(holds_too_much.then_some(held));
                break;
            }
        }
        (!wrong.is_empty()).then(|| wrong.join("\n"))
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
