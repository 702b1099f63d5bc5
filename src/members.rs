//! This process among the other dispatchers: renews its Lease, watches theirs, and says which shards are its.
//!
//! What it says is advice. Two processes that both believe to own a shard complete its Jobs twice, with events
//! of the same ids; what must not happen is prevented at the Job, by its finalizer and its resource version.

mod standing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::{self, Leases};
use crate::domain::shards::Shards;
use crate::telemetry::chain;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use standing::{Share, Standing};

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

    /// One that has nothing to do.
    pub(crate) fn none() -> Self {
        let share = watch::Sender::new(Share { members: 2, shards: Shards::NONE, until: None }).subscribe();
        Self { share, told: Shards::NONE }
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

impl Membership {
    /// `lease`: for how long a member that does not renew keeps its shards; `renew`: how often it does.
    pub fn new(leases: Leases, lease: Duration, renew: Duration, health: Health, metrics: Metrics) -> (Self, Duty) {
        let share = watch::Sender::new(Share { members: 1, shards: Shards::NONE, until: None });
        let duty = Duty { share: share.subscribe(), told: Shards::NONE };
        let standing = Standing::new(leases.own().to_owned(), lease, renew, Instant::now());
        (Self { leases: Arc::new(leases), renew, standing, share, health, metrics }, duty)
    }

    /// Takes part until `leave`; then the others take over at once.
    pub async fn run(mut self, leave: CancellationToken) {
        let mut sighted = self.leases.watch().boxed();
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
                    let (at, now) = (Leases::moment(), Instant::now());
                    self.standing.renews(at, now);
                    renewals.push(renew(Arc::clone(&self.leases), at, self.standing.to_sweep(now)));
                }
                Some((begun, renewed)) = renewals.next() => self.standing.renewed(begun, renewed, Instant::now()),
                Some(sighted) = sighted.next() => self.standing.saw(sighted, Instant::now()),
                () = change => {}
            }
            if self.standing.is_deaf(Instant::now()) {
                warn!("the watch on members shows nothing any more; it is opened again");
                sighted = self.leases.watch().boxed();
                self.standing.reopened(Instant::now());
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
        self.metrics.members.set(share.members.into());
        self.metrics.shards_owned.set(share.shards.count().into());
        let (gained, lost) = (share.shards.without(before.shards).count(), before.shards.without(share.shards).count());
        self.health.shares(share.members, share.shards.count(), gained, lost);
        for (direction, count) in [("gained", gained), ("lost", lost)] {
            self.metrics.shard_moves.get_or_create(&[("direction", direction)]).inc_by(count.into());
        }
        if gained + lost > 0 {
            info!(members = share.members, shards = share.shards.count(), gained, lost, "shards moved");
        }
    }
}

/// One renewal, with when it was begun: the others count from later than that. Sweeps up on the way.
async fn renew(leases: Arc<Leases>, at: Timestamp, stale: Vec<String>) -> (Instant, Result<(), cluster::Error>) {
    let begun = Instant::now();
    let renewed = leases.renew(at).await;
    let sweeping = stale.iter().map(async |member| {
        if let Err(error) = leases.delete(member).await {
            warn!(error = chain(&error), member, "cannot delete the Lease of a member that is long gone");
        }
    });
    join_all(sweeping).await;
    (begun, renewed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duty(until: Instant) -> Duty {
        let share = watch::Sender::new(Share { members: 2, shards: Shards::ALL, until: Some(until) }).subscribe();
        Duty { share, told: Shards::NONE }
    }

    #[test]
    fn a_duty_ends_with_the_lease_before_anybody_says_so() {
        assert!(duty(Instant::now() + Duration::from_secs(60)).owns(7));
        assert!(!duty(Instant::now()).owns(7));
    }

    #[tokio::test]
    async fn a_move_that_came_between_two_looks_is_told() {
        let mut duty = duty(Instant::now());
        tokio::time::timeout(Duration::from_secs(10), duty.moved()).await.expect("the first shards are a move");
        let again = tokio::time::timeout(Duration::from_millis(20), duty.moved()).await;
        assert!(again.is_err(), "told once");
    }
}
