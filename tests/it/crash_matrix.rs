//! A dispatcher ends at a named point of its work, in each way a process can, under a mixed load, alone or
//! beside two others; and every promise is kept. Needs a build with the feature `crash-points`.
//!
//! `CRASHES` selects: nothing takes a few that stand for the others, `all` takes the whole matrix, anything
//! else takes those whose names contain one of its parts, divided by commas. `CRASHES_AT_ONCE` is how many run
//! side by side.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::checker::{Budget, Struck};
use crate::support::{Dispatcher, Load, Plan, World};

/// The point, and at which of its passes it strikes: late enough for work to be under way everywhere.
const POINTS: [(&str, usize); 13] = [
    ("received", 6),
    ("parsed", 6),
    ("cache-read", 6),
    ("create-sent", 3),
    ("created", 3),
    ("waiter-saved", 2),
    ("acked", 6),
    ("terminal-seen", 2),
    ("result-captured", 2),
    ("cache-set", 2),
    // After the answers that need no Job, which are the first.
    ("event-sent", 16),
    ("event-confirmed", 16),
    ("finalizer-removed", 2),
];
const WAYS: [&str; 4] = ["abort", "KILL", "TERM", "STOP"];
const REPLICAS: [usize; 2] = [1, 3];
/// One of each way, with one and with three, at the points that differ most.
const FEW: [&str; 6] = [
    "create-sent/KILL/1",
    "created/TERM/3",
    "waiter-saved/STOP/1",
    "event-sent/STOP/3",
    "event-confirmed/abort/1",
    "finalizer-removed/KILL/3",
];

/// A Lease lasts 6 s, and is looked at by the others every 2 s.
const LONGER_THAN_THE_LEASE: Duration = Duration::from_secs(9);
/// How long the point is waited for, and in how many runs.
const REACHED_WITHIN: Duration = Duration::from_secs(45);
const TRIES: u64 = 3;
/// What a dispatcher has told and not let go of yet may be told twice. It completes 32 Jobs at once, most of them with
/// one waiter here, and Jobs that end together, which under this load are nearly all of them, are told together; the
/// rest are answers from the cache whose requests are not acked yet.
const WINDOW: usize = 40;

#[derive(Debug, Clone)]
struct Crash {
    point: &'static str,
    pass: usize,
    way: &'static str,
    replicas: usize,
    seed: u64,
}

impl Crash {
    fn name(&self) -> String {
        format!("{}/{}/{}", self.point, self.way, self.replicas)
    }

    /// Runs and judges it. Fails with what was wrong.
    async fn run(self) -> String {
        for again in 0..TRIES {
            let seed = self.seed + 1000 * again;
            if let Some(figures) = (Self { seed, ..self.clone() }).try_once().await {
                return figures;
            }
        }
        panic!("{} was not reached in {TRIES} runs", self.name());
    }

    /// `None` when the dispatcher did not come to the point: one of three may own no shard that counts.
    async fn try_once(self) -> Option<String> {
        let name = self.name();
        let world = World::new(&format!("crash-{}-{}", self.point, self.replicas)).await;
        let order = format!("{}:{}:{}", self.point, self.pass, self.way);
        let mut struck = world.dispatcher_in(&[("JOBQUAY_CRASH", &order)], &[]).await;
        let mut others = Vec::new();
        for _ in 1..self.replicas {
            others.push(world.dispatcher().await);
        }
        let load = Load::begin(&world, Plan::new(60, 15.0, 8).seed(self.seed)).await;
        if !self.strikes(&mut struck).await {
            return None;
        }
        let struck_at = load.fault(Struck::Dispatcher, &name);
        if self.way == "STOP" {
            tokio::time::sleep(LONGER_THAN_THE_LEASE).await;
            struck.signal("-CONT");
        } else {
            others.push(world.dispatcher().await);
        }
        load.over(struck_at);
        let history = load.finish().await;
        history.assert_clean(&Budget::of(1, WINDOW).with_skew(Duration::from_secs(2)));
        let recovered = history.recoveries();
        let recovered = recovered.last().map(|recovery| (recovery.next, recovery.all)).unwrap_or_default();
        Some(format!("{name}: {}; healed: {recovered:.2?} to the next and to the last owed answer", history.figures()))
    }

    /// Whether the process has met its end, or stands still, within the time of the load.
    async fn strikes(&self, struck: &mut Dispatcher) -> bool {
        let begun = Instant::now();
        while !(if self.way == "STOP" { struck.is_stopped() } else { struck.has_ended() }) {
            if begun.elapsed() > REACHED_WITHIN {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(struck.log().contains("crash point"), "{} ended otherwise", self.name());
        true
    }
}

fn matrix() -> Vec<Crash> {
    let mut crashes = Vec::new();
    for (point, pass) in POINTS {
        for way in WAYS {
            for replicas in REPLICAS {
                // Of three, each does a third.
                let pass = pass.div_ceil(replicas);
                crashes.push(Crash { point, pass, way, replicas, seed: crashes.len() as u64 + 1 });
            }
        }
    }
    crashes
}

fn selected() -> Vec<Crash> {
    let wanted = std::env::var("CRASHES").unwrap_or_default();
    let is_wanted = |name: &str| match wanted.as_str() {
        "" => FEW.contains(&name),
        "all" => true,
        parts => parts.split(',').any(|part| name.contains(part)),
    };
    matrix().into_iter().filter(|crash| is_wanted(&crash.name())).collect()
}

#[test]
fn the_matrix_is_every_point_in_every_way_with_one_and_with_three() {
    let names: std::collections::BTreeSet<_> = matrix().iter().map(Crash::name).collect();
    assert_eq!(names.len(), 104);
    assert!(FEW.iter().all(|name| names.contains(*name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_ends_anywhere_breaks_no_promise() {
    let at_once = std::env::var("CRASHES_AT_ONCE").ok().map_or(3, |text| text.parse().expect("a number"));
    let room = Arc::new(Semaphore::new(at_once));
    let mut runs = JoinSet::new();
    for crash in selected() {
        let room = Arc::clone(&room);
        runs.spawn(async move {
            let _permit = room.acquire_owned().await.expect("it is never closed");
            let name = crash.name();
            // On a thread of its own: a run asks the broker and the dispatcher in ways that block.
            let run = tokio::task::spawn_blocking(|| Handle::current().block_on(crash.run()));
            (name, run.await)
        });
    }
    assert!(!runs.is_empty(), "CRASHES selects none");
    let (mut clean, mut broken) = (0, Vec::new());
    while let Some(run) = runs.join_next().await {
        match run.expect("a run that fails is caught") {
            (_, Ok(figures)) => {
                clean += 1;
                println!("clean {clean}: {figures}");
            }
            (name, Err(_)) => {
                println!("BROKEN: {name}");
                broken.push(name);
            }
        }
    }
    println!("{clean} crashes were clean, {} broke a promise", broken.len());
    assert!(broken.is_empty(), "{broken:?}; what was wrong is said above");
}
