//! This process among the other dispatchers: renews its Lease, watches theirs, and says which shards are its.
//!
//! What it says is advice. Two processes that both believe to own a shard complete its Jobs twice, with events
//! of the same ids; what must not happen is prevented at the Job, by its finalizer and its resource version.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::{self, Leases, MemberSighted};
use crate::domain::members::Members;
use crate::domain::shards::Shards;
use crate::telemetry::chain;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// What of the work is this process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    /// This one included.
    members: u32,
    shards: Shards,
    /// The others take over then; `None`: there are no Leases to go by.
    until: Option<Instant>,
}

/// Shows what of the work is this process's.
#[derive(Debug, Clone)]
pub struct Duty {
    share: watch::Receiver<Share>,
    /// What [`Self::moved`] has told last.
    told: Shards,
}

impl Duty {
    /// Whether the Jobs of a shard are to be completed here. A process that was stopped for longer than its
    /// Lease learns so from the clock, before it hears of anything else.
    pub fn owns(&self, shard: u16) -> bool {
        let share = self.share.borrow();
        share.until.is_none_or(|until| Instant::now() < until) && share.shards.contains(shard)
    }

    /// How many dispatchers live; at least 1.
    pub fn members(&self) -> u32 {
        self.share.borrow().members
    }

    /// Waits until there are other shards than it told last. Cancel safe.
    pub async fn moved(&mut self) {
        let told = self.told;
        let moved = self.share.wait_for(|share| share.shards != told).await.map(|share| share.shards);
        match moved {
            Ok(shards) => self.told = shards,
            // The task that says so has ended, and with it this process does.
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
impl Duty {
    /// One of `members`, with all the work.
    pub(crate) fn of(members: u32) -> Self {
        let share = watch::Sender::new(Share { members, shards: Shards::ALL, until: None }).subscribe();
        Self { share, told: Shards::ALL }
    }
}

/// The task that keeps the [`Duty`].
pub struct Membership {
    leases: Arc<Leases>,
    renew: Duration,
    standing: Standing,
    share: watch::Sender<Share>,
    health: Health,
    metrics: Metrics,
}

/// What this process knows of itself and the others.
#[derive(Debug)]
struct Standing {
    own: String,
    lease: Duration,
    /// How long it waits after it has come, or come back: those who had its shards finish what they are at.
    settling: Duration,
    others: Members,
    /// Whether the others are known.
    listed: bool,
    /// Leases are refused to this process: it works as if it were alone.
    denied: bool,
    /// Until when the others take it for alive.
    until: Option<Instant>,
    /// From when on it does its share.
    begins: Option<Instant>,
}

impl Membership {
    /// `lease`: for how long a member that does not renew keeps its shards; `renew`: how often it does.
    pub fn new(leases: Leases, lease: Duration, renew: Duration, health: Health, metrics: Metrics) -> (Self, Duty) {
        let share = watch::Sender::new(Share { members: 1, shards: Shards::NONE, until: None });
        let duty = Duty { share: share.subscribe(), told: Shards::NONE };
        let standing = Standing::new(leases.own().to_owned(), lease, renew);
        (Self { leases: Arc::new(leases), renew, standing, share, health, metrics }, duty)
    }

    /// Takes part until `leave`; then the others take over at once.
    pub async fn run(mut self, leave: CancellationToken) {
        let mut sighted = std::pin::pin!(self.leases.watch());
        let mut ticks = tokio::time::interval(self.renew);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // One at a time, and not waited for: a slow answer must not hide who comes and goes.
        let mut renewals = FuturesUnordered::new();
        loop {
            let next = self.standing.next_change(Instant::now());
            let change = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = leave.cancelled() => break,
                _ = ticks.tick(), if renewals.is_empty() => {
                    renewals.push(renew(Arc::clone(&self.leases), self.standing.to_sweep(Instant::now())));
                }
                Some((begun, renewed)) = renewals.next() => self.standing.renewed(begun, renewed),
                Some(sighted) = sighted.next() => self.standing.saw(sighted, Instant::now()),
                () = change => {}
            }
            self.tell();
        }
        drop(renewals);
        if let Err(error) = self.leases.delete(self.leases.own()).await {
            warn!(error = chain(&error), "cannot leave; the others take over when the lease is over");
        }
    }

    fn tell(&self) {
        let share = self.standing.share(Instant::now());
        let before = self.share.send_replace(share);
        self.health.set_share(share.members, share.shards.count());
        self.metrics.members.set(share.members.into());
        self.metrics.shards_owned.set(share.shards.count().into());
        let (gained, lost) = (share.shards.without(before.shards).count(), before.shards.without(share.shards).count());
        for (direction, count) in [("gained", gained), ("lost", lost)] {
            self.metrics.shard_moves.get_or_create(&[("direction", direction)]).inc_by(count.into());
        }
        if gained + lost > 0 {
            info!(members = share.members, shards = share.shards.count(), gained, lost, "shards moved");
        }
    }
}

/// One renewal, with when it was begun: the others count from later than that. Sweeps up on the way.
async fn renew(leases: Arc<Leases>, stale: Vec<String>) -> (Instant, Result<(), cluster::Error>) {
    let begun = Instant::now();
    let renewed = leases.renew().await;
    for member in stale {
        if let Err(error) = leases.delete(&member).await {
            warn!(error = chain(&error), member, "cannot delete the Lease of a member that is long gone");
        }
    }
    (begun, renewed)
}

impl Standing {
    fn new(own: String, lease: Duration, settling: Duration) -> Self {
        let others = Members::new(lease);
        Self { own, lease, settling, others, listed: false, denied: false, until: None, begins: None }
    }

    fn renewed(&mut self, begun: Instant, renewed: Result<(), cluster::Error>) {
        match renewed {
            Ok(()) => {
                let now = Instant::now();
                if self.denied || self.until.is_none_or(|until| until <= now) {
                    self.begins = Some(begun + self.settling);
                }
                self.denied = false;
                self.until = Some(begun + self.lease);
            }
            Err(error) => {
                self.denied = self.denied || error.is_forbidden();
                warn!(error = chain(&error), "cannot renew the Lease of this member");
            }
        }
    }

    fn saw(&mut self, sighted: MemberSighted, now: Instant) {
        match sighted {
            MemberSighted::Renewed { member, .. } | MemberSighted::Left { member } if member == self.own => {}
            MemberSighted::Renewed { member, at } => self.others.saw(&member, at, now),
            MemberSighted::Left { member } => self.others.left(&member),
            MemberSighted::Relisting => self.others.relisting(),
            MemberSighted::Listed => {
                self.others.listed();
                self.listed = true;
            }
            MemberSighted::Denied => self.denied = true,
        }
    }

    /// Without Leases to go by, all of the work: what two do twice is better than what nobody does.
    fn share(&self, now: Instant) -> Share {
        if self.denied {
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
    fn next_change(&self, now: Instant) -> Option<Instant> {
        let own = [self.begins, self.until].into_iter().flatten().filter(|at| now < *at);
        own.chain(self.others.next_end(now)).min()
    }

    /// The Leases that this member deletes: it is the first of those who live.
    fn to_sweep(&self, now: Instant) -> Vec<String> {
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
        standing.renewed(now, Ok(()));
        assert_eq!(standing.share(now).shards, Shards::NONE, "the others are not known");
        standing.saw(renewal("b", 1), now);
        standing.saw(MemberSighted::Listed, now);
        assert_eq!(standing.share(now), Share { members: 1, shards: Shards::ALL, until: Some(now + LEASE) });
    }

    #[test]
    fn who_comes_second_waits_until_the_first_has_let_go() {
        let (mut standing, now) = (standing(), Instant::now());
        standing.renewed(now, Ok(()));
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
        standing.renewed(later - SETTLING, Ok(()));
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
        standing.renewed(long_ago, Ok(()));
        assert_eq!(standing.share(now).shards, Shards::NONE);
        standing.saw(renewal("a", 1), now);
        standing.renewed(now, Ok(()));
        assert_eq!(standing.share(now).shards, Shards::NONE, "it settles as one that comes");
        assert_eq!(standing.share(now + SETTLING).shards, Shards::of("b", &["a"]));
    }

    #[test]
    fn without_the_right_to_leases_it_works_as_if_alone() {
        let (mut standing, now) = (standing(), Instant::now());
        standing.saw(renewal("a", 1), now);
        standing.saw(MemberSighted::Denied, now);
        assert_eq!(standing.share(now), Share { members: 1, shards: Shards::ALL, until: None });
        standing.renewed(now, Ok(()));
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
