//! What a process takes of the machine, with everything it has started, as /proc tells it.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The kernel counts processor time for `stat` in hundredths of a second, on every architecture (`USER_HZ`).
pub(super) const TICK: Duration = Duration::from_millis(10);

/// A reading. Processor time is that of all who were alive at the moment, so differences are of use only while nobody ends.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// Resident memory now, and at most so far, in KiB: sums over the processes.
    pub(crate) resident_kib: u64,
    pub(crate) peak_kib: u64,
    pub(crate) switches: u64,
}

impl Usage {
    /// Of this process and those below it. One that ends meanwhile counts as nothing.
    pub(crate) fn of(root: u32) -> Self {
        let mut sum = Self::default();
        for pid in family(root) {
            let Some(ticks) = stat(pid).map(|stat| stat.ticks) else { continue };
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            sum.cpu += TICK * ticks;
            sum.resident_kib += number(&status, "VmRSS:");
            sum.peak_kib += number(&status, "VmHWM:");
            sum.switches += switches(pid);
        }
        sum
    }
}

/// Ticks of what was left behind by those who were killed: nobody waits for their children.
static OF_ORPHANS: AtomicU32 = AtomicU32::new(0);

/// Remembers what the children of this process have taken, before it is killed.
pub(crate) fn note_orphans(root: u32) {
    let children = family(root).into_iter().filter(|pid| *pid != root);
    let ticks = children.filter_map(|pid| stat(pid).map(|stat| stat.ticks)).sum::<u32>();
    OF_ORPHANS.fetch_add(ticks, Ordering::Relaxed);
}

/// Processor time of this process with all it has started, also of those which have ended.
pub(super) fn with_the_dead(root: u32) -> Duration {
    let waited_for = stat(root).map_or(0, |stat| stat.ticks_of_dead_children);
    Usage::of(root).cpu + TICK * (waited_for + OF_ORPHANS.load(Ordering::Relaxed))
}

/// The kernel's threads are this process's children, where a kernel shows them.
pub(super) const KERNEL_THREADS: u32 = 2;

/// Processor time of the kernel's threads.
pub(super) fn of_the_kernel() -> Duration {
    match fs::read_to_string(format!("/proc/{KERNEL_THREADS}/comm")) {
        Ok(name) if name.trim() == "kthreadd" => Usage::of(KERNEL_THREADS).cpu,
        _ => Duration::ZERO,
    }
}

struct Stat {
    parent: u32,
    ticks: u32,
    ticks_of_dead_children: u32,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything.
    let fields: Vec<_> = text.rsplit_once(") ")?.1.split_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<u32>().ok();
    let ticks_of_dead_children = field(13)? + field(14)?;
    Some(Stat { parent: field(1)?, ticks: field(11)? + field(12)?, ticks_of_dead_children })
}

fn family(root: u32) -> HashSet<u32> {
    let parents: HashMap<u32, u32> =
        pids().into_iter().filter_map(|pid| stat(pid).map(|stat| (pid, stat.parent))).collect();
    let mut family = HashSet::from([root]);
    loop {
        let children: Vec<_> = parents
            .iter()
            .filter(|(pid, parent)| family.contains(parent) && !family.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if children.is_empty() {
            return family;
        }
        family.extend(children);
    }
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn switches(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let statuses = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    statuses
        .map(|status| number(&status, "voluntary_ctxt_switches:") + number(&status, "nonvoluntary_ctxt_switches:"))
        .sum()
}

/// The number behind `name` at the start of a line; 0 where there is none.
fn number(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
