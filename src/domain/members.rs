//! Which dispatchers live, as one of them sees it.
//!
//! A member lives as long as its Lease was seen to change within the lease time, by the clock of whoever
//! looks. Two members may so disagree for a moment: then a Job is completed twice, or a little later.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// A Lease that has ended for so many lease times is nobody's any more.
const LONG_GONE: u32 = 10;

/// The other members, as they were seen.
#[derive(Debug)]
pub struct Members {
    lease: Duration,
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug)]
struct Seen {
    renewed: Option<Timestamp>,
    /// When this process saw it change.
    at: Instant,
    /// The list under way has not shown it yet.
    unconfirmed: bool,
}

impl Members {
    /// `lease`: for how long a member lives after it was seen to renew.
    pub fn new(lease: Duration) -> Self {
        Self { lease, seen: BTreeMap::new() }
    }

    /// Its Lease was shown. Only a renewal that was not seen before tells that it lives; one that is shown for
    /// the first time gets the benefit of the doubt.
    pub fn saw(&mut self, member: &str, renewed: Option<Timestamp>, now: Instant) {
        let seen = self.seen.entry(member.to_owned()).or_insert(Seen { renewed, at: now, unconfirmed: false });
        seen.unconfirmed = false;
        if seen.renewed != renewed {
            (seen.renewed, seen.at) = (renewed, now);
        }
    }

    /// Its Lease was deleted: it left, or it was gone for long.
    pub fn left(&mut self, member: &str) {
        self.seen.remove(member);
    }

    /// The list starts anew: whom it does not show by [`Self::listed`] has left meanwhile.
    pub fn relisting(&mut self) {
        self.seen.values_mut().for_each(|seen| seen.unconfirmed = true);
    }

    pub fn listed(&mut self) {
        self.seen.retain(|_, seen| !seen.unconfirmed);
    }

    pub fn live(&self, now: Instant) -> Vec<&str> {
        self.seen.iter().filter(|(_, seen)| now < seen.at + self.lease).map(|(member, _)| member.as_str()).collect()
    }

    /// When the next of those who live is dead, unless it renews.
    pub fn next_end(&self, now: Instant) -> Option<Instant> {
        self.seen.values().map(|seen| seen.at + self.lease).filter(|end| now < *end).min()
    }

    /// Whose Leases can be deleted.
    pub fn long_gone(&self, now: Instant) -> Vec<&str> {
        let gone = self.seen.iter().filter(|(_, seen)| seen.at + self.lease * LONG_GONE <= now);
        gone.map(|(member, _)| member.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(6);

    fn renewed(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_member_lives_for_one_lease_after_each_renewal() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut members = Members::new(LEASE);
        members.saw("a", renewed(1), at(0));
        members.saw("b", renewed(1), at(0));
        members.saw("a", renewed(3), at(2));
        assert_eq!((members.live(at(5)), members.next_end(at(5))), (vec!["a", "b"], Some(at(6))));
        assert_eq!((members.live(at(6)), members.next_end(at(6))), (vec!["a"], Some(at(8))));
        assert_eq!((members.live(at(8)), members.next_end(at(8))), (vec![], None));
        members.saw("b", renewed(9), at(9));
        assert_eq!(members.live(at(9)), ["b"], "it was only slow");
    }

    #[test]
    fn what_a_list_shows_again_is_no_renewal() {
        let begun = Instant::now();
        let mut members = Members::new(LEASE);
        members.saw("a", renewed(1), begun);
        members.saw("gone", renewed(1), begun);
        let later = begun + Duration::from_secs(5);
        members.relisting();
        members.saw("a", renewed(1), later);
        members.listed();
        assert_eq!(members.live(later), ["a"]);
        assert_eq!(members.next_end(later), Some(begun + LEASE));
    }

    #[test]
    fn a_lease_is_swept_away_long_after_its_end_only() {
        let begun = Instant::now();
        let mut members = Members::new(LEASE);
        members.saw("a", renewed(1), begun);
        assert!(members.long_gone(begun + Duration::from_secs(59)).is_empty());
        assert_eq!(members.long_gone(begun + Duration::from_secs(60)), ["a"]);
    }
}
