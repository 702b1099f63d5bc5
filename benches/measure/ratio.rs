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

/// The contenders of a round in their order: there and back, so that nobody is always the first.
pub(crate) fn there_and_back<T>(contenders: impl IntoIterator<Item = T>, round: usize) -> Vec<T> {
    let mut order: Vec<T> = contenders.into_iter().collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
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
    // The same sample gives the same interval.
    let mut chance = fastrand::Rng::with_seed(7);
    let mut medians: Vec<f64> = (0..DRAWS)
        .map(|_| {
            let drawn: Vec<f64> = ratios.iter().map(|_| ratios[chance.usize(..ratios.len())]).collect();
            median(&drawn)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    Interval { low: medians[DRAWS / 40], median: median(&ratios), high: medians[DRAWS - 1 - DRAWS / 40] }
}
