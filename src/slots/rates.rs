//! How many Jobs a producer may begin in a time.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::domain::lanes::{Candidate, Rate};

/// By producer: its rate, among how many members it is divided, and what is left of it here.
#[derive(Debug, Default)]
pub(super) struct Rates(HashMap<String, (Rate, u32, DefaultDirectRateLimiter)>);

impl Rates {
    /// Whether the producer's rate admits one Job more; asked only when everything else does, since it counts.
    /// Requests come to all members alike, so each gets the same part of the rate.
    pub(super) fn admit(&mut self, candidate: &Candidate, members: u32) -> bool {
        let Some(rate) = candidate.rate else { return true };
        let producer = candidate.occupant.producer.clone().unwrap_or_default();
        let fresh = || (rate, members, limiter(rate, members));
        let known = self.0.entry(producer).or_insert_with(fresh);
        if (known.0, known.1) != (rate, members) {
            *known = fresh();
        }
        known.2.check().is_ok()
    }
}

/// One member's part: evenly spread, and as many at once as one period allows, at least one.
fn limiter(rate: Rate, members: u32) -> DefaultDirectRateLimiter {
    let each = (rate.per / rate.count.get()).saturating_mul(members).max(Duration::from_nanos(1));
    let burst = NonZeroU32::new(rate.count.get().div_ceil(members.max(1))).unwrap_or(NonZeroU32::MIN);
    let quota = Quota::with_period(each).expect("a period of at least a nanosecond").allow_burst(burst);
    RateLimiter::direct(quota)
}
