//! Counts of slots, by what limits them.

use std::collections::HashMap;

use super::Occupant;

/// Slots taken, counted by what limits them.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) all: u32,
    pub(super) lanes: HashMap<String, u32>,
    pub(super) templates: HashMap<String, u32>,
    pub(super) producers: HashMap<String, u32>,
}

impl Taken {
    pub(super) fn add(&mut self, occupant: &Occupant) {
        self.all += 1;
        for (counts, name) in self.counts(occupant) {
            add(counts, name);
        }
    }

    pub(super) fn remove(&mut self, occupant: &Occupant) {
        self.all -= 1;
        for (counts, name) in self.counts(occupant) {
            remove(counts, name);
        }
    }

    fn counts<'a>(&mut self, occupant: &'a Occupant) -> [(&mut HashMap<String, u32>, &'a str); 3] {
        [
            (&mut self.lanes, &occupant.lane),
            (&mut self.templates, &occupant.template),
            (&mut self.producers, occupant.producer.as_deref().unwrap_or_default()),
        ]
    }
}

pub(super) fn add(counts: &mut HashMap<String, u32>, name: &str) {
    *counts.entry(name.to_owned()).or_default() += 1;
}

pub(super) fn remove(counts: &mut HashMap<String, u32>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}
