//! Lanes: which request may begin a Job next, given the Jobs that live.
//!
//! What is in flight is derived from the Jobs that the watch shows, plus those that are being created
//! at this moment, so no count can leak. Freed slots go to the lane that has the fewest for its weight,
//! and within a lane to whoever came first and is not held up by a limit of its own.

mod taken;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use taken::{Taken, add, remove};

/// More Jobs do not end while one create is under way.
const REMEMBERED: usize = 1024;
/// A Job that the watch shows here may not be shown to the other members yet, and what they were about to begin
/// then may not be shown here: each knows of the other this much later.
const SETTLING: Duration = Duration::from_millis(500);

/// What a Job takes up while it lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Occupant {
    pub lane: String,
    pub template: String,
    pub producer: Option<String>,
    /// The Job's namespace and name.
    pub namespace: String,
    pub job: String,
}

/// A request that wants to begin a Job, and the limits that hold for it alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub occupant: Occupant,
    /// Jobs of its template that may live at once.
    pub template_limit: Option<u32>,
    /// Jobs of its producer that may live at once.
    pub producer_limit: Option<u32>,
    /// Jobs that its producer may begin in a time.
    pub rate: Option<Rate>,
}

/// So many in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub count: NonZeroU32,
    pub per: Duration,
}

/// The place of a request in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// When it was received first, which it keeps in its lane.
    pub since: Timestamp,
    /// Tells apart what came at the same time.
    pub order: u64,
}

/// Who lives, who begins and who waits.
#[derive(Debug, Default)]
pub struct Lanes {
    limit: Option<u32>,
    /// Dispatchers that begin Jobs under the same limits, without this one.
    others: u32,
    weights: BTreeMap<String, u32>,
    live: HashMap<String, Occupant>,
    /// How many live Jobs have this name: more than one for the moment in which one follows another.
    names: HashMap<String, u32>,
    /// Live Jobs that the list under way has not shown yet.
    unconfirmed: BTreeSet<String>,
    beginning: BTreeMap<Ticket, Occupant>,
    /// Created here, and not shown by the watch yet.
    unseen: HashSet<String>,
    /// Created here, and shown by the watch since.
    settling: VecDeque<(Instant, Occupant)>,
    waiting: BTreeMap<Ticket, Candidate>,
    /// Jobs seen to end of late, the latest last: the answer to a create can be slower than its Job.
    ended: VecDeque<String>,
    taken: Taken,
    /// What the other members may not have seen: what is beginning, unseen or settling.
    hidden: Taken,
}

impl Lanes {
    /// `limit` is for all lanes together; a lane without a weight has the weight 1.
    pub fn new(limit: Option<u32>, weights: BTreeMap<String, u32>) -> Self {
        Self { limit, weights, ..Self::default() }
    }

    /// Whether a Job of this name lives: who wants the same needs no slot, but joins it.
    pub fn lives(&self, job: &str) -> bool {
        self.names.contains_key(job)
    }

    /// Whether anything limits the Jobs that this candidate counts among.
    pub fn is_bounded(&self, candidate: &Candidate) -> bool {
        self.limit.or(candidate.template_limit).or(candidate.producer_limit).is_some()
    }

    /// How many dispatchers share the slots now. Each of them is taken to begin as many at this moment as this one
    /// does, so that together they overshoot a limit by fewer than there are of them.
    pub fn share_among(&mut self, members: u32, now: Instant) {
        self.others = members.saturating_sub(1);
        let settled = self.settling.partition_point(|(seen, _)| *seen + SETTLING <= now);
        for (_, occupant) in self.settling.drain(..settled) {
            self.hidden.remove(&occupant);
        }
    }

    /// Takes a slot at once, unless a limit is reached or one like this waits already.
    pub fn take(&mut self, ticket: Ticket, candidate: &Candidate) -> bool {
        let like = |other: &Candidate| {
            other.occupant.lane == candidate.occupant.lane
                && (other.occupant.template == candidate.occupant.template
                    || other.occupant.producer == candidate.occupant.producer)
        };
        if self.waiting.values().any(like) || !self.has_room(candidate) {
            return false;
        }
        self.begin(ticket, candidate.occupant.clone());
        true
    }

    pub fn wait(&mut self, ticket: Ticket, candidate: Candidate) {
        self.waiting.insert(ticket, candidate);
    }

    /// Gives up waiting.
    pub fn leave(&mut self, ticket: Ticket) {
        self.waiting.remove(&ticket);
    }

    /// Gives a slot to whoever is next, if there is one; `admits` is asked last, and may refuse for now.
    pub fn next(&mut self, mut admits: impl FnMut(&Candidate) -> bool) -> Option<Ticket> {
        let mut lanes: BTreeMap<&str, Vec<(Ticket, &Candidate)>> = BTreeMap::new();
        for (ticket, candidate) in self.waiting.iter().filter(|(_, candidate)| self.has_room(candidate)) {
            lanes.entry(&candidate.occupant.lane).or_default().push((*ticket, candidate));
        }
        let mut lanes: Vec<_> = lanes.into_iter().collect();
        // Slots taken by weight, compared without dividing; the earlier request wins a tie.
        lanes.sort_by(|(one, first), (other, second)| {
            let weighed = |lane, weight_of| u64::from(self.taken_by(lane)) * u64::from(self.weight(weight_of));
            weighed(one, other).cmp(&weighed(other, one)).then(first[0].0.cmp(&second[0].0))
        });
        let (ticket, _) =
            lanes.into_iter().flat_map(|(_, waiting)| waiting).find(|(_, candidate)| admits(candidate))?;
        let candidate = self.waiting.remove(&ticket)?;
        self.begin(ticket, candidate.occupant);
        Some(ticket)
    }

    /// Those who wait for a slot that they do not need any more: a Job of their name lives.
    pub fn joiners(&mut self) -> Vec<Ticket> {
        let lives = |candidate: &Candidate| self.names.contains_key(&candidate.occupant.job);
        self.waiting.extract_if(.., |_, candidate| lives(candidate)).map(|(ticket, _)| ticket).collect()
    }

    /// The younger half of each lane of which three quarters of `hand` requests are here and wait, while there is a slot that
    /// none of them may take: somebody who may could be behind them.
    pub fn crowd(&self, hand: usize) -> Vec<Ticket> {
        if !self.has_slot() {
            return Vec::new();
        }
        let mut lanes: BTreeMap<&str, Vec<Ticket>> = BTreeMap::new();
        for (ticket, candidate) in &self.waiting {
            lanes.entry(&candidate.occupant.lane).or_default().push(*ticket);
        }
        // Not all of them wait at any moment: some are about to look again.
        let full = lanes.into_values().filter(|here| here.len() * 4 >= hand * 3);
        full.flat_map(|mut here| here.split_off(here.len() / 2)).collect()
    }

    /// What was begun has become the Job `uid`.
    pub fn became(&mut self, ticket: Ticket, uid: &str) {
        if let Some(occupant) = self.release(ticket)
            && !self.ended.iter().any(|ended| ended == uid)
            && !self.live.contains_key(uid)
        {
            self.hidden.add(&occupant);
            self.unseen.insert(uid.to_owned());
            self.hold(uid, occupant);
        }
    }

    /// What was begun has come to no Job.
    pub fn release(&mut self, ticket: Ticket) -> Option<Occupant> {
        let occupant = self.beginning.remove(&ticket)?;
        self.taken.remove(&occupant);
        self.hidden.remove(&occupant);
        Some(occupant)
    }

    /// The watch shows a Job that has not ended.
    pub fn saw(&mut self, uid: &str, occupant: Occupant, now: Instant) {
        self.unconfirmed.remove(uid);
        match self.live.get(uid) {
            Some(known) if self.unseen.remove(uid) => self.settling.push_back((now, known.clone())),
            Some(_) => {}
            None => self.hold(uid, occupant),
        }
    }

    fn hold(&mut self, uid: &str, occupant: Occupant) {
        self.taken.add(&occupant);
        add(&mut self.names, &occupant.job);
        self.live.insert(uid.to_owned(), occupant);
    }

    /// The watch shows that a Job has ended or gone.
    pub fn gone(&mut self, uid: &str) {
        self.unconfirmed.remove(uid);
        if let Some(occupant) = self.live.remove(uid) {
            self.taken.remove(&occupant);
            if self.unseen.remove(uid) {
                self.hidden.remove(&occupant);
            }
            remove(&mut self.names, &occupant.job);
        } else if !self.beginning.is_empty() && !self.ended.iter().any(|ended| ended == uid) {
            if self.ended.len() == REMEMBERED {
                self.ended.pop_front();
            }
            self.ended.push_back(uid.to_owned());
        }
    }

    /// No Job has this name. One that is created in this moment is held again when the watch shows it.
    pub fn none_is_called(&mut self, job: &str) {
        let called = self.live.iter().filter(|(_, occupant)| occupant.job == job);
        let gone: Vec<_> = called.map(|(uid, _)| uid.clone()).collect();
        gone.iter().for_each(|uid| self.gone(uid));
    }

    /// The watch lists a namespace anew: what it does not show again by [`Self::listed`] has gone meanwhile.
    pub fn relisting(&mut self, namespace: &str) {
        let there = self.live.iter().filter(|(_, occupant)| occupant.namespace == namespace);
        self.unconfirmed.extend(there.map(|(uid, _)| uid.clone()));
    }

    pub fn listed(&mut self, namespace: &str) {
        let there = |uid: &String| self.live.get(uid).is_none_or(|occupant| occupant.namespace == namespace);
        let unconfirmed: Vec<_> = self.unconfirmed.iter().filter(|uid| there(uid)).cloned().collect();
        for uid in unconfirmed {
            self.gone(&uid);
        }
    }

    /// Slots taken and requests waiting here, by lane.
    pub fn load(&self) -> BTreeMap<String, (u32, u32)> {
        let mut load: BTreeMap<String, (u32, u32)> = self.weights.keys().map(|lane| (lane.clone(), (0, 0))).collect();
        for (lane, taken) in &self.taken.lanes {
            load.entry(lane.clone()).or_default().0 = *taken;
        }
        for candidate in self.waiting.values() {
            load.entry(candidate.occupant.lane.clone()).or_default().1 += 1;
        }
        load
    }

    fn begin(&mut self, ticket: Ticket, occupant: Occupant) {
        self.taken.add(&occupant);
        self.hidden.add(&occupant);
        self.beginning.insert(ticket, occupant);
    }

    fn has_room(&self, candidate: &Candidate) -> bool {
        let count = |counts: &HashMap<String, u32>, name: &str| counts.get(name).copied().unwrap_or_default();
        let producer = candidate.occupant.producer.as_deref().unwrap_or_default();
        self.has_slot()
            && self.is_below(candidate.template_limit, |taken| count(&taken.templates, &candidate.occupant.template))
            && self.is_below(candidate.producer_limit, |taken| count(&taken.producers, producer))
    }

    /// Whether the limit for all lanes leaves one.
    fn has_slot(&self) -> bool {
        self.is_below(self.limit, |taken| taken.all)
    }

    fn is_below(&self, limit: Option<u32>, of: impl Fn(&Taken) -> u32) -> bool {
        let taken = u64::from(of(&self.taken)) + u64::from(self.others) * u64::from(of(&self.hidden));
        limit.is_none_or(|limit| taken < limit.into())
    }

    fn taken_by(&self, lane: &str) -> u32 {
        self.taken.lanes.get(lane).copied().unwrap_or_default()
    }

    fn weight(&self, lane: &str) -> u32 {
        self.weights.get(lane).copied().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests;
