//! What a run came to, in one line.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::checker::{Fault, History};

impl History {
    /// Counts, and how long the answers took.
    pub(crate) fn figures(&self) -> String {
        let mut states: BTreeMap<String, usize> = BTreeMap::new();
        for told in &self.events {
            *states.entry(format!("{} {}", told.state, told.served_by).trim_end().to_owned()).or_default() += 1;
        }
        let mut waits: Vec<_> = self.requests.iter().filter_map(|asked| self.wait(&asked.id)).collect();
        waits.sort();
        let at = |share: f64| waits.get(((waits.len() as f64 - 1.0) * share) as usize).copied().unwrap_or_default();
        let uids: std::collections::BTreeSet<_> = self.jobs.iter().map(|sight| &sight.uid).collect();
        let sent: usize = self.requests.iter().map(|asked| asked.sent).sum();
        format!(
            "{} requests sent {sent} times, {} answers ({} duplicates) {states:?}, {} Jobs; {} of {} waiters told after the release; answered within {:.2?} (median), {:.2?} (p99), {:.2?} (last){}",
            self.requests.len(),
            self.events.len(),
            self.duplicates(),
            uids.len(),
            self.told_late().0,
            self.told_late().1,
            at(0.5),
            at(0.99),
            at(1.0),
            self.faults.iter().map(|fault| self.recovery(fault)).collect::<String>(),
        )
    }

    fn wait(&self, request: &str) -> Option<Duration> {
        let asked = self.requests.iter().find(|asked| asked.id == request)?;
        let told = self.events.iter().find(|told| told.request == request)?;
        Some(told.at.saturating_sub(asked.at))
    }

    /// From the fault to the next answer, and to the last answer of those that were owed one then.
    fn recovery(&self, fault: &Fault) -> String {
        let after = fault.at;
        let first = self.events.iter().find(|told| told.at > after).map(|told| told.at - after);
        let owed = self.requests.iter().filter(|asked| asked.at < after);
        let last = owed
            .filter_map(|asked| self.events.iter().find(|told| told.request == asked.id))
            .map(|told| told.at.saturating_sub(after))
            .max();
        format!(
            "; {} at {:.1?}: next answer after {:.2?}, all that was owed after {:.2?}",
            fault.what,
            fault.at,
            first.unwrap_or_default(),
            last.unwrap_or_default()
        )
    }
}
