//! Whether the machine did anything else while something was measured.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use super::usage::{self, TICK, Usage};
use crate::stack::Stack;

/// More than this part of all processor time, taken by others, makes a measurement worth nothing.
const NOISE: f64 = 0.05;

/// A reading of all processor time so far.
pub(crate) struct Quiet<'a> {
    stack: &'a Stack,
    machine: Machine,
    ours: HashMap<u32, Duration>,
}

impl<'a> Quiet<'a> {
    pub(crate) fn from_now(stack: &'a Stack) -> Self {
        Self { stack, machine: Machine::now(), ours: ours(stack) }
    }

    /// What disturbed the time since then, in words. What a part of the stack has done that was stopped meanwhile counts
    /// among the others.
    pub(crate) fn disturbance(&self) -> Option<String> {
        let machine = Machine::now();
        let all = (machine.all - self.machine.all).max(TICK).as_secs_f64();
        let stolen = (machine.stolen - self.machine.stolen).as_secs_f64() / all;
        let busy = machine.busy - self.machine.busy;
        let of_us = ours(self.stack)
            .into_iter()
            .map(|(pid, now)| now.saturating_sub(self.ours.get(&pid).copied().unwrap_or_default()));
        let others = busy.saturating_sub(of_us.sum()).as_secs_f64() / all;
        let percent = |part: f64| format!("{:.0} %", part * 100.0);
        match () {
            () if stolen > NOISE => Some(format!("the host took {} of the processors", percent(stolen))),
            () if others > NOISE => Some(format!("other programs took {} of the processors", percent(others))),
            () => None,
        }
    }
}

/// Processor time of this program with everything it has started, of each part of the stack, and of the kernel's own
/// threads, which write what those have to write; by the first process of each.
fn ours(stack: &Stack) -> HashMap<u32, Duration> {
    let parts = stack.pids().into_iter().map(|pid| (pid, Usage::of(pid).cpu));
    let us = std::process::id();
    parts.chain([(us, usage::with_the_dead(us)), (usage::KERNEL_THREADS, usage::of_the_kernel())]).collect()
}

/// Processor time of the whole machine since it started.
struct Machine {
    /// Taken by the host for its other guests.
    stolen: Duration,
    busy: Duration,
    all: Duration,
}

impl Machine {
    fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let first = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = first.split_whitespace().skip(1).take(8).map(|word| word.parse().unwrap_or(0)).collect();
        let sum = |columns: &[usize]| {
            let ticks: u64 = columns.iter().filter_map(|at| ticks.get(*at)).sum();
            TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX))
        };
        // user, nice, system, idle, iowait, irq, softirq, steal: proc(5).
        Self { stolen: sum(&[7]), busy: sum(&[0, 1, 2, 5, 6]), all: sum(&[0, 1, 2, 3, 4, 5, 6, 7]) }
    }
}
