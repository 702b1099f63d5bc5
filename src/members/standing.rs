//! What this process knows of itself and the other members, and which share of the work follows from it.
//! Time and what was seen come in; nothing here waits or calls.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tracing::warn;

use crate::cluster::{self, MemberSighted};
use crate::domain::members::Members;
use crate::domain::shards::Shards;
use crate::telemetry::chain;

/// Renewals that are known again when they are shown; a watch that is later by so many is opened anew before.
const WRITTEN: usize = 64;

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
    /// By how much the others are judged beyond what the watch has shown: this member's next renewal may not be there yet.
    unheard: Duration,
    others: Members,
    /// Whether the others are known.
    listed: bool,
    /// A list is being shown, in which not everybody has come up yet; and until when it has shown what the watch shows.
    listing: bool,
    heard_in_list: Option<Instant>,
    /// What renewals have written that the watch has not shown yet, and when they were begun.
    written: VecDeque<(Timestamp, Instant)>,
    /// Until when the watch has shown everything: when the last renewal was begun that it has shown.
    heard: Option<Instant>,
    /// When it was opened.
    opened: Instant,
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
    pub(super) fn new(own: String, lease: Duration, renew: Duration, now: Instant) -> Self {
        let others = Members::new(lease);
        Self {
            own,
            lease,
            settling: renew,
            unheard: lease.saturating_sub(renew) / 2,
            others,
            listed: false,
            listing: false,
            heard_in_list: None,
            written: VecDeque::new(),
            heard: None,
            opened: now,
            renewal_denied: false,
            watch_denied: false,
            until: None,
            begins: None,
        }
    }

    /// A renewal is begun that writes `at`.
    pub(super) fn renews(&mut self, at: Timestamp, now: Instant) {
        self.written.push_back((at, now));
        if self.written.len() > WRITTEN {
            self.written.pop_front();
        }
    }

    /// The renewal that was begun at `begun` has had its answer.
    pub(super) fn renewed(&mut self, begun: Instant, renewed: Result<(), cluster::Error>, now: Instant) {
        match renewed {
            Ok(()) => self.lives(begun, now),
            Err(error) => {
                self.renewal_denied |= error.is_refused();
                warn!(error = chain(&error), "cannot renew the Lease of this member");
            }
        }
    }

    /// The others see what a renewal has written that was begun then.
    fn lives(&mut self, begun: Instant, now: Instant) {
        let until = begun + self.lease;
        if std::mem::take(&mut self.renewal_denied) || self.until.is_none_or(|until| until <= now) {
            self.begins = Some(begun + self.settling);
        }
        self.until = Some(self.until.map_or(until, |before| before.max(until)));
    }

    /// The watch has shown this member's Lease. That tells how far it is, and that the renewal has come to the others too, also
    /// where its answer was lost.
    fn saw_own(&mut self, at: Option<Timestamp>, now: Instant) {
        let Some(place) = self.written.iter().position(|(written, _)| at == Some(*written)) else { return };
        let Some((_, begun)) = self.written.drain(..=place).next_back() else { return };
        self.lives(begun, now);
        // In a list the first would speak for those who come after it.
        match self.listing {
            true => self.heard_in_list = Some(begun),
            false => self.heard = Some(begun),
        }
    }

    pub(super) fn saw(&mut self, sighted: MemberSighted, now: Instant) {
        match sighted {
            MemberSighted::Renewed { member, at } if member == self.own => self.saw_own(at, now),
            MemberSighted::Renewed { member, at } => self.others.saw(&member, at, now),
            MemberSighted::Left { member } => self.others.left(&member),
            MemberSighted::Relisting => {
                self.others.relisting();
                self.listing = true;
            }
            MemberSighted::Listed => {
                self.others.listed();
                (self.listed, self.listing) = (true, false);
                self.heard = self.heard_in_list.take().or(self.heard);
                if std::mem::take(&mut self.watch_denied) {
                    self.begins = Some(now + self.settling);
                }
            }
            MemberSighted::Denied => self.watch_denied = true,
        }
    }

    /// Whether the watch has gone silent, or is late by more than a lease time: it does not show this member's own renewals.
    pub(super) fn is_deaf(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until) && self.deaf_from() <= now
    }

    fn deaf_from(&self) -> Instant {
        self.heard.map_or(self.opened, |heard| heard.max(self.opened)) + self.lease
    }

    /// The watch was opened anew.
    pub(super) fn reopened(&mut self, now: Instant) {
        self.opened = now;
    }

    /// The time by which the others are judged: nobody is dead because the watch does not show that they live.
    fn judged_at(&self, now: Instant) -> Instant {
        self.heard.map_or(now, |heard| now.min(heard + self.unheard))
    }

    /// Without Leases to go by, all of the work: what two do twice is better than what nobody does.
    pub(super) fn share(&self, now: Instant) -> Share {
        if self.renewal_denied || self.watch_denied {
            return Share { members: 1, shards: Shards::ALL, until: None };
        }
        let others = self.others.live(self.judged_at(now));
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
        let own = [self.begins, self.until, Some(self.deaf_from())].into_iter().flatten().filter(|at| now < *at);
        own.chain(self.others.next_end(now)).min()
    }

    /// The Leases that this member deletes: it is the first of those who live.
    pub(super) fn to_sweep(&self, now: Instant) -> Vec<String> {
        let now = self.judged_at(now);
        let first = self.others.live(now).first().is_none_or(|other| self.own.as_str() < *other);
        if first { self.others.long_gone(now).into_iter().map(str::to_owned).collect() } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests;
