//! What a process holds over a run: memory and descriptors.

use std::time::Duration;

use crate::support::Dispatcher;

/// More than this is a leak, or may as well be one.
const GROWTH_KIB: u64 = 32 << 10;
/// Beyond the most that it had early: connections that are being made anew.
const SPARE_DESCRIPTORS: usize = 64;
/// Connections to the API server: a call each of the requests in hand and of the completions at work. Behind a proxy that
/// speaks HTTP/1 each call has a connection of its own, and the client lets go of idle ones only when it looks for one.
const CALLS_AT_ONCE: usize = 256 + 32;
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

    /// A process holds no more at the end than it did in the first half of the run.
    pub(super) async fn judge(self, seed: u64, process: &Dispatcher) -> Option<String> {
        let warm = &self.samples[self.samples.len() / 4..];
        let early = &self.samples[..self.samples.len().div_ceil(2)];
        let memory = early.iter().map(|sample| sample.memory_kib).max()?;
        let descriptors = early.iter().map(|sample| sample.descriptors).max()?;
        let begun = std::time::Instant::now();
        loop {
            let now = self.look(begun.elapsed(), process);
            let leaks = now.descriptors > descriptors + SPARE_DESCRIPTORS || now.calls > CALLS_AT_ONCE;
            let wrong = now.memory_kib > memory + GROWTH_KIB || leaks;
            if !wrong || begun.elapsed() > SETTLING {
                let figures = format!(
                    "seed {seed}: at most {memory} KiB and {descriptors} descriptors in the first half, {} and {} at the end, \
                     and {} connections to the API server; {:+.0} KiB an hour",
                    now.memory_kib,
                    now.descriptors,
                    now.calls,
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
