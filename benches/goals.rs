//! What jobquay has to reach, and what a change must not lose: bounds on the figures that the parts measure.

use std::fmt;

use serde::Serialize;

use crate::measure::ratio::Interval;
use crate::report::{Part, Table};

/// A figure that somebody promises something of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum Figure {
    HitsToF0,
    HitsToF1,
    CpuAHitToF0,
    HitsACpuSecondToPython,
    HitsACpuSecondToCelery,
    LatencyP50ToF0,
    LatencyP99ToF0,
    CreatesToF2,
    IdleToFloor,
    SingleToKeda,
    SingleToKedaTuned,
    BacklogToKeda,
    BacklogToKedaTuned,
    SingleToArgo,
    BacklogToArgo,
    BacklogToArgoTuned,
    BacklogToPython,
    ConditionP50ToF3,
    ConditionP99ToF3,
    PodEndToCondition,
    PodEndToEarlyAnswer,
    WritesAMiss,
    ReadsAMiss,
    IdenticalCreates,
    IdenticalLastAnswer,
    IdleMemory,
    MemoryAnOpenJob,
    PeakWhileListing,
    RecoveryToList,
    ColdStart,
    OverloadGoodputToPeak,
    PoisonToClean,
    Instructions,
}

#[derive(Debug, Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}
use Bound::{AtLeast, AtMost};

/// The figure, what it is, what is to be reached, and what a change must not lose on any machine: about a third worse than
/// what was seen where it was set.
const BOUNDS: [(Figure, &str, Bound, Option<Bound>); 33] = [
    (Figure::HitsToF0, "hits a second ÷ F0", AtLeast(0.90), Some(AtLeast(0.30))),
    (Figure::HitsToF1, "hits a second ÷ F1", AtLeast(0.97), Some(AtLeast(0.35))),
    (Figure::CpuAHitToF0, "CPU a hit ÷ F0", AtMost(1.6), Some(AtMost(5.5))),
    (Figure::HitsACpuSecondToPython, "hits a CPU-second ÷ Python", AtLeast(10.0), None),
    (Figure::HitsACpuSecondToCelery, "hits a CPU-second ÷ Celery", AtLeast(20.0), None),
    (Figure::LatencyP50ToF0, "a hit's p50 at half load ÷ F0", AtMost(1.2), None),
    (Figure::LatencyP99ToF0, "a hit's p99 at half load ÷ F0", AtMost(1.5), None),
    (Figure::CreatesToF2, "creates a second ÷ F2", AtLeast(0.95), Some(AtLeast(0.5))),
    (Figure::IdleToFloor, "request → Job, idle ÷ floor", AtMost(1.3), Some(AtMost(1.6))),
    (Figure::SingleToKeda, "request → Job ÷ KEDA's", AtMost(1.0 / 500.0), None),
    (Figure::SingleToKedaTuned, "request → Job ÷ KEDA's, tuned", AtMost(1.0 / 20.0), None),
    (Figure::BacklogToKeda, "Jobs a second of 500 ÷ KEDA", AtLeast(20.0), None),
    (Figure::BacklogToKedaTuned, "Jobs a second of 500 ÷ KEDA, tuned", AtLeast(3.0), None),
    (Figure::SingleToArgo, "request → Job ÷ Argo's submit → pod", AtMost(1.0), None),
    (Figure::BacklogToArgo, "Jobs a second of 500 ÷ Argo's pods", AtLeast(40.0), None),
    (Figure::BacklogToArgoTuned, "Jobs a second of 500 ÷ Argo's pods, tuned", AtLeast(20.0), None),
    (Figure::BacklogToPython, "Jobs a second of 500 ÷ Python", AtLeast(5.0), None),
    (Figure::ConditionP50ToF3, "condition → answer, p50 ÷ F3", AtMost(1.3), None),
    (Figure::ConditionP99ToF3, "condition → answer, p99 ÷ F3", AtMost(2.0), None),
    (Figure::PodEndToCondition, "pod's end → answer ÷ condition", AtMost(1.05), None),
    (Figure::PodEndToEarlyAnswer, "pod's end → answer, `answer: pod`, ms", AtMost(50.0), None),
    (Figure::WritesAMiss, "API writes a miss", AtMost(3.0), None),
    (Figure::ReadsAMiss, "API reads a miss", AtMost(0.0), None),
    (Figure::IdenticalCreates, "creates for 1000 identical, 3 replicas", AtMost(4.0), None),
    (Figure::IdenticalLastAnswer, "Job's end → last of 1000 answers, ms", AtMost(1000.0), None),
    (Figure::IdleMemory, "idle, MiB", AtMost(20.0), None),
    (Figure::MemoryAnOpenJob, "an open Job, KiB", AtMost(1.0), None),
    (Figure::PeakWhileListing, "peak while listing ÷ steady", AtMost(1.3), None),
    (Figure::RecoveryToList, "kill → first answer ÷ bare LIST", AtMost(1.2), None),
    (Figure::ColdStart, "start → first hit, ms", AtMost(100.0), None),
    (Figure::OverloadGoodputToPeak, "goodput at twice the load ÷ peak", AtLeast(0.95), None),
    (Figure::PoisonToClean, "good answers with 10 % poison ÷ clean", AtLeast(0.90), None),
    (Figure::Instructions, "instructions of a hit's pure steps, thousands", AtMost(150.0), Some(AtMost(150.0))),
];

impl Bound {
    /// By the worse end of the interval.
    fn holds(self, measured: Interval) -> bool {
        match self {
            AtLeast(bound) => measured.low >= bound,
            AtMost(bound) => measured.high <= bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AtLeast(bound) => write!(out, "≥ {bound:.3}"),
            AtMost(bound) => write!(out, "≤ {bound:.3}"),
        }
    }
}

/// A figure that was measured, and what is said of it.
struct Measured {
    interval: Interval,
    name: &'static str,
    goal: Bound,
    guard: Option<Bound>,
    /// In a part that has measurements which are worth nothing.
    disturbed: bool,
}

fn measured(parts: &[Part]) -> impl Iterator<Item = Measured> {
    let figures = parts.iter().flat_map(|part| part.figures.iter().map(|figure| (figure, !part.disturbed.is_empty())));
    figures.flat_map(|((figure, interval), disturbed)| {
        let bounds = BOUNDS.iter().filter(move |(of, ..)| of == figure);
        bounds.map(move |(_, name, goal, guard)| Measured {
            interval: *interval,
            name,
            goal: *goal,
            guard: *guard,
            disturbed,
        })
    })
}

/// What was measured beside what is to be reached.
pub(crate) fn table(parts: &[Part]) -> Table {
    let mut table = Table::new(&["figure", "measured", "goal", ""]);
    for Measured { interval, name, goal, disturbed, .. } in measured(parts) {
        let verdict = if goal.holds(interval) { "met" } else { "missed" };
        let verdict = format!("{verdict}{}", if disturbed { " (disturbed)" } else { "" });
        table.rows.push(vec![name.to_owned(), interval.to_string(), goal.to_string(), verdict]);
    }
    table
}

/// The guards that do not hold, in words.
pub(crate) fn lost(parts: &[Part]) -> Vec<String> {
    measured(parts)
        .filter_map(|figure| Some((figure.interval, figure.name, figure.guard?)))
        // Half of the rounds are on either side of the median; its interval is too wide in a few short ones.
        .filter(|(interval, _, guard)| !guard.holds(Interval::exact(interval.median)))
        .map(|(interval, name, guard)| format!("{name}: {interval}, and {guard} was there"))
        .collect()
}
