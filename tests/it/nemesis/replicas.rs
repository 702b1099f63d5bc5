//! What happens to the replicas themselves.

use std::sync::Mutex;
use std::time::Duration;

use super::edges::Edges;
use super::pace::Pace;
use super::vitals::Vitals;
use crate::support::{Dispatcher, Load, World};

#[derive(Debug, Clone, Copy)]
enum Fault {
    Killed,
    Aborted,
    Terminated,
    Frozen,
}

const FAULTS: [Fault; 5] = [Fault::Killed, Fault::Killed, Fault::Aborted, Fault::Terminated, Fault::Frozen];
const COUNT: usize = 3;
/// A Lease lasts 6 s: some sleep through it, and some do not.
const LASTING: Duration = Duration::from_secs(6);
const SAMPLES: u32 = 60;

/// The first is frozen at times and never ended, so that what it holds can be followed through the whole run.
pub(super) struct Replicas<'a> {
    world: &'a World,
    environment: Vec<(String, String)>,
    running: Mutex<Vec<Dispatcher>>,
    /// Those that were told to end, and do so in their own time.
    leaving: Mutex<Vec<Dispatcher>>,
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
                Fault::Frozen => (pace.below(COUNT), pace.lasting(LASTING)),
                _ => (1 + pace.below(COUNT - 1), pace.lasting(LASTING / 4)),
            };
            load.fault(format!("replica {number} {fault:?}"));
            self.strike(number, fault);
            tokio::time::sleep(lasting).await;
            match fault {
                Fault::Frozen => self.signal(number, "-CONT"),
                _ => {
                    let ended = std::mem::replace(
                        &mut self.running.lock().expect("nobody panics with it")[number],
                        self.begin(),
                    );
                    self.leaving.lock().expect("nobody panics with it").push(ended);
                }
            }
            load.fault(format!("replica {number} back"));
        }
    }

    fn strike(&self, number: usize, fault: Fault) {
        match fault {
            Fault::Killed => self.signal(number, "-KILL"),
            Fault::Aborted => self.signal(number, "-ABRT"),
            Fault::Frozen => self.signal(number, "-STOP"),
            Fault::Terminated => self.signal(number, "-TERM"),
        }
    }

    fn signal(&self, number: usize, signal: &str) {
        self.running.lock().expect("nobody panics with it")[number].signal(signal);
    }

    /// Looks now and then at what the first holds.
    pub(super) async fn watch(&self, length: Duration) {
        let begun = std::time::Instant::now();
        while begun.elapsed() < length {
            tokio::time::sleep(length / SAMPLES).await;
            self.look(begun.elapsed());
        }
    }

    fn look(&self, at: Duration) {
        let running = self.running.lock().expect("nobody panics with it");
        self.vitals.lock().expect("nobody panics with it").note(at, &running[0]);
    }

    /// What the first holds too much of when all is over.
    pub(super) async fn judge(self, seed: u64) -> Option<String> {
        let Self { running, vitals, .. } = self;
        let running = running.into_inner().expect("nobody panics with it");
        vitals.into_inner().expect("nobody panics with it").judge(seed, &running[0]).await
    }
}
