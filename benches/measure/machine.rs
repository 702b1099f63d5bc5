//! The machine, and whether it was quiet while something was measured.

use std::fs;
use std::time::Duration;

/// More than this taken by others makes a measurement worth nothing.
pub(crate) const NOISE: f64 = 0.05;

/// In one line, for the head of a table.
pub(crate) fn describe() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, name)| name);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} x {model}, {} GiB, Linux {}", processors(), kib >> 20, kernel.trim())
}

pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Processor time of the whole machine since it started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// Taken by the host for its other guests.
    stolen: u64,
    /// Spent waiting for a disk.
    waiting: u64,
    all: u64,
}

impl Times {
    pub(crate) fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = first.split_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
        let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
        Self { stolen: at(7), waiting: at(4), all: ticks.iter().sum() }
    }

    /// The parts of the time since `before` that were stolen, and spent waiting.
    pub(crate) fn noise_since(self, before: Self) -> (f64, f64) {
        let all = (self.all - before.all).max(1) as f64;
        ((self.stolen - before.stolen) as f64 / all, self.waiting.saturating_sub(before.waiting) as f64 / all)
    }
}

/// A file system's time for one write that is on disk afterwards: the floor of every durable queue.
pub(crate) fn sync_latency(dir: &std::path::Path) -> std::io::Result<Duration> {
    use std::io::Write;
    let path = dir.join("sync-latency");
    let mut file = fs::File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let begun = std::time::Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    fs::remove_file(path)?;
    times.sort();
    Ok(times[times.len() / 2])
}
