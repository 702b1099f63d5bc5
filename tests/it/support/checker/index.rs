//! The recordings, brought together by request and by Job.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::history::{Asked, Claim, End, History, Mode, Sight, Told, Wish};

pub(super) struct Index<'a> {
    pub(super) history: &'a History,
    requests: HashMap<&'a str, &'a Asked>,
    events: HashMap<&'a str, Vec<&'a Told>>,
    /// By uid.
    pub(super) jobs: BTreeMap<&'a str, Story<'a>>,
    /// By request, the uids of the Jobs that it stood on.
    stood: HashMap<&'a str, Vec<&'a str>>,
    cancelled: HashSet<&'a str>,
}

/// One Job from its first sight to its last.
pub(super) struct Story<'a> {
    pub(super) sights: Vec<&'a Sight>,
}

impl<'a> Index<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut events: HashMap<&str, Vec<&Told>> = HashMap::new();
        for told in &history.events {
            events.entry(&told.request).or_default().push(told);
        }
        let mut jobs: BTreeMap<&str, Story<'_>> = BTreeMap::new();
        for sight in &history.jobs {
            jobs.entry(&sight.uid).or_insert_with(|| Story { sights: Vec::new() }).sights.push(sight);
        }
        let mut stood: HashMap<&str, Vec<&str>> = HashMap::new();
        for (uid, story) in &jobs {
            for claim in story.claims() {
                stood.entry(&claim.request).or_default().push(uid);
            }
        }
        let cancelled = history.requests.iter().filter_map(|asked| match &asked.wish {
            Wish::Cancel(target) => Some(target.as_str()),
            Wish::Run { .. } => None,
        });
        Self {
            history,
            requests: history.requests.iter().map(|asked| (asked.id.as_str(), asked)).collect(),
            events,
            jobs,
            stood,
            cancelled: cancelled.collect(),
        }
    }

    pub(super) fn request(&self, id: &str) -> Option<&'a Asked> {
        self.requests.get(id).copied()
    }

    /// The terminal events of a request.
    pub(super) fn events(&self, id: &str) -> &[&'a Told] {
        self.events.get(id).map_or(&[], Vec::as_slice)
    }

    /// Whether somebody asked to cancel it.
    pub(super) fn is_cancelled(&self, id: &str) -> bool {
        self.cancelled.contains(id)
    }

    /// Answers beyond what the request was owed: one for each time it was sent.
    pub(super) fn duplicates(&self, asked: &Asked) -> usize {
        self.events(&asked.id).len().saturating_sub(asked.sent)
    }

    /// The Jobs that the request stood on.
    pub(super) fn jobs_of(&self, id: &str) -> impl Iterator<Item = &Story<'a>> {
        self.stood.get(id).into_iter().flatten().map(|uid| &self.jobs[uid])
    }

    /// Whether it ran alone, beside whatever else ran of its key.
    pub(super) fn is_alone(&self, story: &Story<'_>) -> bool {
        let creator = story.last().claims.iter().find(|claim| claim.created_job);
        creator.and_then(|claim| self.request(&claim.request)).is_some_and(|asked| asked.mode() == Some(Mode::Bypass))
    }
}

impl<'a> Story<'a> {
    pub(super) fn first(&self) -> &'a Sight {
        self.sights[0]
    }

    pub(super) fn last(&self) -> &'a Sight {
        self.sights[self.sights.len() - 1]
    }

    /// The verdict, and when it was first seen.
    pub(super) fn end(&self) -> Option<(Duration, End)> {
        let first = self.sights.iter().find_map(|sight| Some((sight.at, sight.end?)))?;
        // A Job that is deleted while it succeeds has its verdict after the deletion.
        let verdict = self.sights.iter().filter_map(|sight| sight.end).find(|end| *end != End::Deleted);
        Some((first.0, verdict.unwrap_or(first.1)))
    }

    /// When it was first seen without our finalizer. One that is being deleted goes with it: the API server
    /// shows it then as it was before.
    pub(super) fn released(&self) -> Option<Duration> {
        self.sights.iter().find(|sight| !sight.finalizer || sight.gone).map(|sight| sight.at)
    }

    pub(super) fn gone(&self) -> Option<Duration> {
        self.sights.iter().find(|sight| sight.gone).map(|sight| sight.at)
    }

    pub(super) fn claims(&self) -> &'a [Claim] {
        &self.last().claims
    }
}
