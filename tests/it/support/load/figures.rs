//! What a run came to, in few lines.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::support::checker::History;

/// What was done to the system, and how long it took from there until answers came again.
pub(crate) struct Recovery {
    pub(crate) fault: String,
    /// To the next answer.
    pub(crate) next: Duration,
    /// To the last first answer of all that were owed one then.
    pub(crate) all: Duration,
}

impl History {
    /// Counts, and how long the answers took.
    pub(crate) fn figures(&self) -> String {
        let mut states: BTreeMap<String, usize> = BTreeMap::new();
        for told in &self.events {
            *states.entry(format!("{} {}", told.state, told.served_by).trim_end().to_owned()).or_default() += 1;
        }
        let first = self.first_answers();
        let mut waits: Vec<_> = self
            .requests
            .iter()
            .filter_map(|asked| Some(first.get(asked.id.as_str())?.saturating_sub(asked.at)))
            .collect();
        waits.sort();
        let at = |share: f64| waits.get(((waits.len() as f64 - 1.0) * share) as usize).copied().unwrap_or_default();
        let uids: std::collections::BTreeSet<_> = self.jobs.iter().map(|sight| &sight.uid).collect();
        let sent: usize = self.requests.iter().map(|asked| asked.sent).sum();
        format!(
            "{} requests sent {sent} times, {} of them answered, {} answers ({} duplicates) {states:?}, {} Jobs ({} unexplained), {} faults; answered within {:.2?} (median), {:.2?} (p99), {:.2?} (last)",
            self.requests.len(),
            first.len(),
            self.events.len(),
            self.duplicates(false) + self.duplicates(true),
            uids.len(),
            self.extra_jobs(),
            self.faults.len(),
            at(0.5),
            at(0.99),
            at(1.0),
        )
    }

    /// How long hits took in each quarter of the run, in the median: it shows a slow decline.
    pub(crate) fn hits_by_quarter(&self) -> [Option<Duration>; 4] {
        let length = self.requests.iter().map(|asked| asked.at).max().unwrap_or_default();
        let asked: HashMap<_, _> = self.requests.iter().map(|asked| (asked.id.as_str(), asked.at)).collect();
        let hits = self.events.iter().filter(|told| told.served_by == "cache");
        let waits: Vec<_> = hits
            .filter_map(|hit| asked.get(hit.request.as_str()).map(|at| (*at, hit.at.saturating_sub(*at))))
            .collect();
        [0, 1, 2, 3].map(|quarter| {
            let within = length * quarter / 4..=length * (quarter + 1) / 4;
            let mut some: Vec<_> = waits.iter().filter(|(at, _)| within.contains(at)).map(|(_, wait)| *wait).collect();
            some.sort();
            some.get(some.len() / 2).copied()
        })
    }

    /// One for each fault, and for each end of one.
    pub(crate) fn recoveries(&self) -> Vec<Recovery> {
        let first = self.first_answers();
        let mut owed: Vec<_> =
            self.requests.iter().filter_map(|asked| Some((asked.at, *first.get(asked.id.as_str())?))).collect();
        owed.sort();
        let of = |(what, after): (String, Duration)| {
            let next = self.events.iter().find(|told| told.at > after).map(|told| told.at - after);
            let asked_before = owed.iter().take_while(|(asked, _)| *asked < after);
            let all = asked_before.map(|(_, told)| told.saturating_sub(after)).max();
            Recovery { fault: what, next: next.unwrap_or_default(), all: all.unwrap_or_default() }
        };
        let begun = self.faults.iter().map(|fault| (fault.what.clone(), fault.at));
        let over = self.faults.iter().filter_map(|fault| Some((format!("{} over", fault.what), fault.over?)));
        begun.chain(over).map(of).collect()
    }

    /// The longest time without any answer, and what was done shortly before and in it.
    pub(crate) fn longest_silence(&self) -> String {
        let times: Vec<_> = self.events.iter().map(|told| told.at).collect();
        let Some(pair) = times.windows(2).max_by_key(|pair| pair[1] - pair[0]) else { return "none".into() };
        let (from, to) = (pair[0], pair[1]);
        let near = self.faults.iter().filter(|fault| fault.at + Duration::from_secs(10) > from && fault.at < to);
        let near: Vec<_> = near.map(|fault| format!("{} at {:.1?}", fault.what, fault.at)).collect();
        format!("{:.1?} from {from:.1?}: {}", to - from, near.join(", "))
    }

    /// When each request was answered first.
    fn first_answers(&self) -> HashMap<&str, Duration> {
        let mut first = HashMap::new();
        for told in &self.events {
            first.entry(told.request.as_str()).or_insert(told.at);
        }
        first
    }
}
