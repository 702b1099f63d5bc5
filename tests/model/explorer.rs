//! A breadth-first search of all worlds that can come of a first one, so that what it finds is shortest.
//!
//! Of each world only a fingerprint of 64 bits is kept: among a million, two of them are equal with a
//! probability of one in ten million.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use super::scopes::Scope;
use super::steps::{self, Step};
use super::world::{Invariant, World};

/// What a search came to.
#[derive(Debug)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    /// Whether what has to come about in the scope does.
    pub(crate) comes_about: bool,
    pub(crate) refuted: Option<Trace>,
}

/// The shortest way to a broken promise.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) invariant: Invariant,
    pub(crate) steps: Vec<Step>,
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{:?} is broken after {} steps:", self.invariant, self.steps.len())?;
        for (number, step) in (1..).zip(&self.steps) {
            writeln!(formatter, "{number:>4}  {step}")?;
        }
        Ok(())
    }
}

/// All worlds seen so far, by their numbers in the order in which they were found.
struct Graph {
    numbers: HashMap<u64, u32, BuildHasherDefault<Unhashed>>,
    fingerprints: Vec<u64>,
    /// From which each was found first.
    parents: Vec<u32>,
    /// The steps that are no faults, backwards.
    ways: Vec<(u32, u32)>,
    drained: Vec<u32>,
}

/// Explores the scope until a promise is found broken, or until everything has been seen.
pub(crate) fn explore(scope: &Scope) -> Explored {
    let first = scope.first_world();
    let mut graph = Graph::new(&first);
    let mut waiting = VecDeque::from([(0, first)]);
    let mut next = Vec::new();
    let mut comes_about = false;
    while let Some((from, world)) = waiting.pop_front() {
        steps::from(&world, scope, &mut next);
        for (step, world) in next.drain(..) {
            let (number, new) = graph.add(&world, from);
            if !step.is_fault {
                graph.ways.push((number, from));
            }
            if let Some(invariant) = world.broken {
                return graph.refuted(invariant, number, scope);
            }
            if new {
                comes_about = comes_about || (scope.comes_about)(&world);
                waiting.push_back((number, world));
            }
        }
    }
    match graph.first_stuck() {
        Some(stuck) => graph.refuted(Invariant::Answered, stuck, scope),
        None => Explored { states: graph.parents.len(), comes_about, refuted: None },
    }
}

impl Graph {
    fn new(first: &World) -> Self {
        let mut graph = Self {
            numbers: HashMap::default(),
            fingerprints: Vec::new(),
            parents: Vec::new(),
            ways: Vec::new(),
            drained: Vec::new(),
        };
        graph.add(first, 0);
        graph
    }

    /// The number of a world, and whether it was new.
    fn add(&mut self, world: &World, from: u32) -> (u32, bool) {
        let next = u32::try_from(self.parents.len()).expect("there are fewer worlds than that");
        let fingerprint = fingerprint(world);
        let number = *self.numbers.entry(fingerprint).or_insert(next);
        if number == next {
            self.fingerprints.push(fingerprint);
            self.parents.push(from);
            if world.is_drained() {
                self.drained.push(number);
            }
        }
        (number, number == next)
    }

    /// The first world from which nothing leads to rest any more, however long and without any fault.
    fn first_stuck(&mut self) -> Option<u32> {
        self.ways.sort_unstable();
        let mut drains = vec![false; self.parents.len()];
        let mut reached = std::mem::take(&mut self.drained);
        while let Some(world) = reached.pop() {
            if std::mem::replace(&mut drains[world as usize], true) {
                continue;
            }
            let begin = self.ways.partition_point(|(to, _)| *to < world);
            reached.extend(self.ways[begin..].iter().take_while(|(to, _)| *to == world).map(|(_, from)| from));
        }
        drains.iter().position(|drains| !drains).map(|stuck| stuck as u32)
    }

    fn refuted(&self, invariant: Invariant, broken: u32, scope: &Scope) -> Explored {
        let mut numbers = vec![broken];
        while let Some(last) = numbers.last().filter(|last| **last != 0) {
            numbers.push(self.parents[*last as usize]);
        }
        let mut world = scope.first_world();
        let mut taken = Vec::new();
        for number in numbers.into_iter().rev().skip(1) {
            let mut next = Vec::new();
            steps::from(&world, scope, &mut next);
            let wanted = self.fingerprints[number as usize];
            let found = next.into_iter().find(|(_, world)| fingerprint(world) == wanted);
            let (step, found) = found.expect("the world was found by one of these steps");
            taken.push(step);
            world = found;
        }
        let refuted = Some(Trace { invariant, steps: taken });
        Explored { states: self.parents.len(), comes_about: false, refuted }
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = Fingerprint(0);
    world.hash(&mut hasher);
    hasher.finish()
}

/// Faster than the hasher of the standard library where nothing is optimised; nobody chooses the input.
struct Fingerprint(u64);

impl Fingerprint {
    fn mix(&mut self, word: u64) {
        // The multiplier of a well-known generator; the shift brings the high bits down again.
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 29;
    }
}

impl Hasher for Fingerprint {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.mix(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.mix(u64::from(word));
    }

    fn write_isize(&mut self, word: isize) {
        self.mix(word as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A fingerprint is spread well enough as it is.
#[derive(Default)]
struct Unhashed(u64);

impl Hasher for Unhashed {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are looked up")
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
