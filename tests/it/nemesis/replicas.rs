//! What happens to the replicas themselves.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::edges::Edges;
use super::pace::Pace;
use super::vitals::Vitals;
use crate::support::checker::Struck;
use crate::support::dispatcher::starve;
use crate::support::{Dispatcher, Load, PATIENCE, World};

#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    Aborted,
    Terminated,
    Frozen,
    /// A tenth of a processor is left to it.
    Starved,
    /// It gets no more descriptors than it has.
    WithoutDescriptors,
}

const FAULTS: [Fault; 7] = [
    Fault::Killed,
    Fault::Killed,
    Fault::Aborted,
    Fault::Terminated,
    Fault::Frozen,
    Fault::Starved,
    Fault::WithoutDescriptors,
];
const COUNT: usize = 3;
/// How long one may take to end: its grace, which is 25 s, and what a busy machine adds to it.
const LEAVING: Duration = Duration::from_secs(25 + 15);
/// A Lease lasts 6 s: some sleep through it, and some do not.
const LASTING: Duration = Duration::from_secs(6);
const SAMPLES: u32 = 60;
/// Descriptors: as many as a process usually may have.
const ENOUGH: usize = 1024;

/// The first is frozen at times and never ended, so that what it holds can be followed through the whole run.
pub(super) struct Replicas<'a> {
    world: &'a World,
    environment: Vec<(String, String)>,
    running: Mutex<Vec<Dispatcher>>,
    /// Waits for those that were told to end.
    leaving: Mutex<JoinSet<Option<String>>>,
    vitals: Mutex<Vitals>,
}

/// Calls without an answer are given up soon. Who may declare has done so.
const SETTINGS: [&str; 2] = ["kubernetes.call_timeout=3s", "log.level=info"];

impl<'a> Replicas<'a> {
    pub(super) async fn start(world: &'a World, edges: &Edges<'_>) -> Self {
        let owned = edges.environment().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let replicas = Self {
            world,
            environment: owned,
            running: Mutex::default(),
            leaving: Mutex::default(),
            vitals: Mutex::new(Vitals::new(edges.api_port())),
        };
        for _ in 0..COUNT {
            let started = replicas.begin();
            started.ready().await;
            replicas.running.lock().expect("nobody panics with it").push(started);
        }
        replicas
    }

    fn begin(&self) -> Dispatcher {
        let environment: Vec<_> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.world.dispatcher_begun(&environment, &SETTINGS)
    }

    pub(super) async fn suffer(&self, mut pace: Pace, load: &Load<'_>) {
        while let Some(fault) = pace.next(&FAULTS).await {
            let (number, lasting) = match fault {
                Fault::Frozen | Fault::Starved | Fault::WithoutDescriptors => {
                    (pace.below(COUNT), pace.lasting(LASTING))
                }
                _ => (1 + pace.below(COUNT - 1), pace.lasting(LASTING / 4)),
            };
            let noted = load.fault(Struck::Dispatcher, format!("replica {fault:?}"));
            self.strike(number, fault);
            match fault {
                Fault::Starved => {
                    // It goes on until then.
                    let _ = tokio::time::timeout(lasting, starve(|signal| self.signal(number, signal))).await;
                }
                _ => tokio::time::sleep(lasting).await,
            }
            match fault {
                Fault::Frozen | Fault::Starved => self.signal(number, "-CONT"),
                Fault::WithoutDescriptors => self.descriptors(number, ENOUGH),
                _ => {
                    let ended = std::mem::replace(
                        &mut self.running.lock().expect("nobody panics with it")[number],
                        self.begin(),
                    );
                    self.leaving.lock().expect("nobody panics with it").spawn(outstays(ended, fault));
                }
            }
            load.over(noted);
        }
    }

    fn strike(&self, number: usize, fault: Fault) {
        match fault {
            Fault::Killed => self.signal(number, "-KILL"),
            Fault::Aborted => self.signal(number, "-ABRT"),
            Fault::Frozen | Fault::Starved => self.signal(number, "-STOP"),
            Fault::Terminated => self.signal(number, "-TERM"),
            Fault::WithoutDescriptors => self.descriptors(number, 1),
        }
    }

    fn signal(&self, number: usize, signal: &str) {
        self.running.lock().expect("nobody panics with it")[number].signal(signal);
    }

    fn descriptors(&self, number: usize, limit: usize) {
        self.running.lock().expect("nobody panics with it")[number].limit_descriptors(limit);
    }

    /// Looks now and then at what the first holds.
    pub(super) async fn watch(&self, length: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < length {
            tokio::time::sleep(length / SAMPLES).await;
            self.look(begun.elapsed());
        }
    }

    fn look(&self, at: Duration) {
        let running = self.running.lock().expect("nobody panics with it");
        self.vitals.lock().expect("nobody panics with it").note(at, &running[0]);
    }

    /// Who has not ended, and what those that run hold too much of when all is over, beside what the first held early.
    pub(super) async fn judge(self, seed: u64, length: Duration) -> Option<String> {
        let Self { world, running, leaving, vitals, .. } = self;
        let running = running.into_inner().expect("nobody panics with it");
        let left = leaving.into_inner().expect("nobody panics with it").join_all().await;
        println!("seed {seed}: {} replicas were to end", left.len());
        let mut wrong: Vec<_> = left.into_iter().flatten().collect();
        wrong.extend(consumers(world).await);
        wrong.extend(vitals.into_inner().expect("nobody panics with it").judge(seed, length, &running).await);
        (!wrong.is_empty()).then(|| wrong.join("\n"))
    }
}

/// Waits for the end of one that was told to; says so if it does not come. None of them is stopped: whoever was has gone on
/// before the next fault.
async fn outstays(mut leaving: Dispatcher, fault: Fault) -> Option<String> {
    let told = Instant::now();
    while !leaving.has_ended() {
        if told.elapsed() > LEAVING {
            return Some(format!("a replica that was {fault:?} has not ended within {LEAVING:?}"));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    None
}

/// Waits until the replicas that run are all that take requests: what a session takes that nobody reads is with nobody.
async fn consumers(world: &World) -> Option<String> {
    let begun = Instant::now();
    loop {
        let consumers = world.broker.queue("jobquay.requests")["consumers"].clone();
        if consumers == COUNT {
            return None;
        }
        if begun.elapsed() > PATIENCE {
            return Some(format!("{consumers} consumers of the requests, and {COUNT} replicas"));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
