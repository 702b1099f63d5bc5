//! What this process knows of itself and the other members, and which share of the work follows from it.
//! Time and what was seen come in; nothing here waits or calls.

use std::time::{Duration, Instant};

use tracing::warn;

use crate::cluster::{self, MemberSighted};
use crate::domain::members::Members;
use crate::domain::shards::Shards;
use crate::telemetry::chain;

/// What of the work is this process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// This one included.
    pub(super) members: u32,
    pub(super) shards: Shards,
    /// The others take over then; `None`: there are no Leases to go by.
    pub(super) until: Option<Instant>,
}

/// What this process knows of itself and the others.
#[derive(Debug)]
pub(super) struct Standing {
    own: String,
    lease: Duration,
    /// How long it waits after it has come, or come back: those who had its shards finish what they are at.
    settling: Duration,
    others: Members,
    /// Whether the others are known.
    listed: bool,
    /// To renew its Lease is refused to this process.
    renewal_denied: bool,
    /// To see the Leases is.
    watch_denied: bool,
    /// Until when the others take it for alive.
    until: Option<Instant>,
    /// From when on it does its share.
    begins: Option<Instant>,
}

impl Standing {
    pub(super) fn new(own: String, lease: Duration, settling: Duration) -> Self {
        let others = Members::new(lease);
        Self {
            own,
            lease,
            settling,
            others,
            listed: false,
            renewal_denied: false,
            watch_denied: false,
            until: None,
            begins: None,
        }
    }

    /// A renewal that was begun at `begun` has had its answer.
    pub(super) fn renewed(&mut self, begun: Instant, renewed: Result<(), cluster::Error>, now: Instant) {
        match renewed {
            Ok(()) => {
                if std::mem::take(&mut self.renewal_denied) || self.until.is_none_or(|until| until <= now) {
                    self.begins = Some(begun + self.settling);
                }
                self.until = Some(begun + self.lease);
            }
            Err(error) => {
                self.renewal_denied |= error.is_refused();
                warn!(error = chain(&error), "cannot renew the Lease of this member");
            }
        }
    }

    pub(super) fn saw(&mut self, sighted: MemberSighted, now: Instant) {
        match sighted {
            MemberSighted::Renewed { member, .. } | MemberSighted::Left { member } if member == self.own => {}
            MemberSighted::Renewed { member, at } => self.others.saw(&member, at, now),
            MemberSighted::Left { member } => self.others.left(&member),
            MemberSighted::Relisting => self.others.relisting(),
            MemberSighted::Listed => {
                self.others.listed();
                self.listed = true;
                if std::mem::take(&mut self.watch_denied) {
                    self.begins = Some(now + self.settling);
                }
            }
            MemberSighted::Denied => self.watch_denied = true,
        }
    }

    /// Without Leases to go by, all of the work: what two do twice is better than what nobody does.
    pub(super) fn share(&self, now: Instant) -> Share {
        if self.renewal_denied || self.watch_denied {
            return Share { members: 1, shards: Shards::ALL, until: None };
        }
        let others = self.others.live(now);
        let members = u32::try_from(others.len() + 1).unwrap_or(u32::MAX);
        let lives = self.until.filter(|until| now < *until);
        let settled = others.is_empty() || self.begins.is_some_and(|begins| begins <= now);
        match lives {
            Some(until) if self.listed && settled => {
                Share { members, shards: Shards::of(&self.own, &others), until: Some(until) }
            }
            _ => Share { members, shards: Shards::NONE, until: None },
        }
    }

    /// When [`Self::share`] changes although nothing happens.
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let own = [self.begins, self.until].into_iter().flatten().filter(|at| now < *at);
        own.chain(self.others.next_end(now)).min()
    }

    /// The Leases that this member deletes: it is the first of those who live.
    pub(super) fn to_sweep(&self, now: Instant) -> Vec<String> {
        let first = self.others.live(now).first().is_none_or(|other| self.own.as_str() < *other);
        if first { self.others.long_gone(now).into_iter().map(str::to_owned).collect() } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const LEASE: Duration = Duration::from_secs(6);
    const SETTLING: Duration = Duration::from_secs(2);

    fn standing() -> Standing {
        Standing::new("b".into(), LEASE, SETTLING)
    }

    fn renewal(member: &str, second: i64) -> MemberSighted {
        MemberSighted::Renewed { member: member.into(), at: Some(Timestamp::from_second(second).unwrap()) }
    }

    #[test]
    fn who_is_alone_does_everything_once_it_knows_that_it_is() {
        let (mut standing, now) = (standing(), Instant::now());
        assert_eq!(standing.share(now).shards, Shards::NONE);
        standing.renewed(now, Ok(()), now);
        assert_eq!(standing.share(now).shards, Shards::NONE, "the others are not known");
        standing.saw(renewal("b", 1), now);
        standing.saw(MemberSighted::Listed, now);
        assert_eq!(standing.share(now), Share { members: 1, shards: Shards::ALL, until: Some(now + LEASE) });
    }

    #[test]
    fn who_comes_second_waits_until_the_first_has_let_go() {
        let (mut standing, now) = (standing(), Instant::now());
        standing.renewed(now, Ok(()), now);
        standing.saw(renewal("a", 1), now);
        standing.saw(MemberSighted::Listed, now);
        assert_eq!(standing.share(now), Share { members: 2, shards: Shards::NONE, until: None });
        assert_eq!(standing.next_change(now), Some(now + SETTLING));
        let share = standing.share(now + SETTLING);
        assert_eq!((share.members, share.shards), (2, Shards::of("b", &["a"])));
        assert_eq!(standing.share(now + LEASE - Duration::from_millis(1)).shards, Shards::of("b", &["a"]));
    }

    #[test]
    fn what_a_dead_member_had_is_taken_over_when_its_lease_is_over_and_of_one_that_left_at_once() {
        let (mut standing, now) = (standing(), Instant::now());
        standing.saw(renewal("a", 1), now);
        standing.saw(MemberSighted::Listed, now);
        let later = now + Duration::from_secs(5);
        standing.renewed(later - SETTLING, Ok(()), now);
        standing.until = Some(later + LEASE);
        assert_eq!(standing.share(later).members, 2);
        assert_eq!(standing.next_change(later), Some(now + LEASE));
        assert_eq!(standing.share(now + LEASE).shards, Shards::ALL);
        standing.saw(MemberSighted::Left { member: "a".into() }, later);
        assert_eq!(standing.share(later).shards, Shards::ALL);
    }

    #[test]
    fn who_was_stopped_for_longer_than_its_lease_owns_nothing_until_it_has_come_back() {
        let (mut standing, now) = (standing(), Instant::now());
        let long_ago = now.checked_sub(LEASE).unwrap();
        standing.saw(MemberSighted::Listed, now);
        standing.renewed(long_ago, Ok(()), now);
        assert_eq!(standing.share(now).shards, Shards::NONE);
        standing.saw(renewal("a", 1), now);
        standing.renewed(now, Ok(()), now);
        assert_eq!(standing.share(now).shards, Shards::NONE, "it settles as one that comes");
        assert_eq!(standing.share(now + SETTLING).shards, Shards::of("b", &["a"]));
    }

    #[test]
    fn without_the_right_to_leases_it_works_as_if_alone() {
        let (mut standing, now) = (standing(), Instant::now());
        standing.saw(renewal("a", 1), now);
        standing.saw(MemberSighted::Denied, now);
        assert_eq!(standing.share(now), Share { members: 1, shards: Shards::ALL, until: None });
        standing.renewed(now, Ok(()), now);
        assert_eq!(standing.share(now).shards, Shards::ALL, "the right to renew alone shows nobody");
        standing.saw(MemberSighted::Listed, now);
        assert_eq!(standing.share(now).shards, Shards::NONE, "until the others have let go of its share");
        assert_eq!(standing.share(now + SETTLING).shards, Shards::of("b", &["a"]));
    }

    #[test]
    fn the_first_of_those_who_live_sweeps_up() {
        let (mut standing, now) = (standing(), Instant::now());
        standing.saw(renewal("gone", 1), now);
        let later = now + LEASE * 10;
        assert_eq!(standing.to_sweep(later), ["gone"]);
        standing.saw(renewal("a", 60), later);
        assert!(standing.to_sweep(later).is_empty());
    }
}
