//! Medians, and ratios with the interval in which they lie.

use std::fmt;

/// How often a sample is drawn anew.
const DRAWS: usize = 10_000;

/// A median with its bootstrap interval of 95 %.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Interval {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Interval {
    /// Of what was counted.
    pub(crate) fn exact(value: f64) -> Self {
        Self { low: value, median: value, high: value }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:.2} [{:.2}, {:.2}]", self.median, self.low, self.high)
    }
}

/// `NaN` of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// The median and both ends of a few figures.
pub(crate) fn span(values: &[f64]) -> Interval {
    let ends = (values.iter().copied().reduce(f64::min), values.iter().copied().reduce(f64::max));
    Interval { low: ends.0.unwrap_or(f64::NAN), median: median(values), high: ends.1.unwrap_or(f64::NAN) }
}

/// The median of single figures.
pub(crate) fn of_all(values: &[f64]) -> Interval {
    of_pairs(values, &vec![1.0; values.len()])
}

/// The median of the ratios of what was measured side by side.
///
/// Both of a pair stand next to each other in time, so that what the machine does slowly cancels out.
pub(crate) fn of_pairs(ours: &[f64], theirs: &[f64]) -> Interval {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    bootstrap(median(&ratios), |chance| drawn_median(&ratios, chance))
}

/// The ratio of two medians, where nothing of the one stands beside anything of the other.
pub(crate) fn of_samples(ours: &[f64], theirs: &[f64]) -> Interval {
    bootstrap(median(ours) / median(theirs), |chance| drawn_median(ours, chance) / drawn_median(theirs, chance))
}

fn drawn_median(values: &[f64], chance: &mut fastrand::Rng) -> f64 {
    let drawn: Vec<f64> = values.iter().map(|_| values[chance.usize(..values.len())]).collect();
    median(&drawn)
}

fn bootstrap(median: f64, mut draw: impl FnMut(&mut fastrand::Rng) -> f64) -> Interval {
    // The same sample gives the same interval.
    let mut chance = fastrand::Rng::with_seed(7);
    let mut drawn: Vec<f64> = (0..DRAWS).map(|_| draw(&mut chance)).collect();
    drawn.sort_by(f64::total_cmp);
    Interval { low: drawn[DRAWS / 40], median, high: drawn[DRAWS - 1 - DRAWS / 40] }
}
