//! Faults drawn at random, of every kind that one machine can produce, under a mixed load on three replicas; and
//! every promise is kept. Afterwards nothing is left over, in no queue, on no Job, and in no process.
//!
//! `NEMESIS_RUNS` runs of `NEMESIS_SECONDS`, of which `NEMESIS_AT_ONCE` share the stack, begin with the seed
//! `NEMESIS_SEED` (0 draws one). Between two faults of one kind lie `NEMESIS_PAUSE` seconds in the mean, and twice
//! that between those of a whole part. A seed draws
//! the same requests and faults again, though not at the same moments.

mod edges;
mod pace;
mod parts;
mod replicas;
mod vitals;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::support::checker::{Budget, Struck};
use crate::support::hold::Hold;
use crate::support::load::Recovery;
use crate::support::{Load, Plan, World};
use edges::Edges;
use pace::Pace;
use replicas::Replicas;

/// Requests a second, and results that are asked for at one time.
const RATE: f64 = 5.0;
const KEYS: usize = 8;
/// More than have their place on a Job: the others go into its queue.
const CROWD: usize = 320;
const CROWD_EVERY: Duration = Duration::from_secs(150);
/// What three replicas may have told and not noted yet when one of them dies or loses a link, as a mean over the faults of
/// a run.
const WINDOW: usize = 4;
/// How many keys are computed anew because of one fault of Redis: a flush takes all that are asked for.
const ANEW: usize = KEYS;
/// A link that is bad ends session after session.
const DEATHS: usize = 4;
/// By how much hits may take longer late in a run than early in it: a busy machine makes that twice as long.
const DRIFT: u32 = 4;
const NO_DRIFT: Duration = Duration::from_millis(250);
const LONG: Duration = Duration::from_secs(1200);
/// A Lease that nobody renews ends after 6 s, and is looked at every 2 s.
const SETTLING: Duration = Duration::from_secs(10);

struct Setting {
    runs: usize,
    at_once: usize,
    length: Duration,
    pause: Duration,
    seed: u64,
}

impl Setting {
    fn read() -> Self {
        let number = |name: &str, usual: u64| match std::env::var(name) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text}: a whole number is needed")),
            Err(_) => usual,
        };
        let count = |name: &str| usize::try_from(number(name, 1).max(1)).expect("a few");
        Self {
            runs: count("NEMESIS_RUNS"),
            at_once: count("NEMESIS_AT_ONCE"),
            length: Duration::from_secs(number("NEMESIS_SECONDS", 45)),
            pause: Duration::from_secs(number("NEMESIS_PAUSE", 6)),
            seed: match number("NEMESIS_SEED", 1) {
                0 => u64::from(uuid::Uuid::now_v7().as_fields().1) << 16 | 1,
                seed => seed,
            },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn every_promise_is_kept_through_faults_drawn_at_random() {
    let setting = Setting::read();
    let hold = Arc::new(Hold::alone().await);
    let seeds: Vec<_> = (setting.seed..).take(setting.runs).collect();
    let mut failed = Vec::new();
    for batch in seeds.chunks(setting.at_once) {
        failed.extend(side_by_side(&hold, &setting, batch).await);
    }
    assert!(failed.is_empty(), "{} of {} runs failed:\n{}", failed.len(), setting.runs, failed.join("\n\n"));
}

/// One run for each seed. They suffer from the same faults of the stack, and each from its own.
async fn side_by_side(hold: &Arc<Hold>, setting: &Setting, seeds: &[u64]) -> Vec<String> {
    println!("seeds {seeds:?}, {:?} each", setting.length);
    let names: Vec<_> = seeds.iter().map(|seed| format!("nemesis-{seed}")).collect();
    let worlds = join_all(names.iter().map(|name| World::under(hold, name))).await;
    let runs = join_all(worlds.iter().zip(seeds).map(|(world, seed)| Run::begin(world, *seed, setting))).await;
    let loads: Vec<_> = runs.iter().map(|run| &run.load).collect();
    let pace = Pace::new(seeds[0], "parts", setting.length, setting.pause * 2);
    tokio::join!(parts::suffer(pace, &loads), join_all(runs.iter().map(|run| run.suffer(setting))));
    let verdicts = join_all(runs.into_iter().map(Run::judge)).await;
    println!("{}", table(verdicts.iter().flat_map(|verdict| &verdict.recoveries)));
    verdicts.into_iter().filter_map(|verdict| verdict.wrong).collect()
}

struct Run<'a> {
    world: &'a World,
    seed: u64,
    length: Duration,
    load: Load<'a>,
    edges: Edges<'a>,
    replicas: Replicas<'a>,
}

impl<'a> Run<'a> {
    async fn begin(world: &'a World, seed: u64, setting: &Setting) -> Self {
        let edges = Edges::start(world).await;
        let replicas = Replicas::start(world, &edges).await;
        let requests = (RATE * setting.length.as_secs_f64()) as usize;
        let plan = Plan::new(requests, RATE, KEYS).seed(seed).crowds(CROWD, CROWD_EVERY);
        let load = Load::begin(world, plan).await;
        Self { world, seed, length: setting.length, load, edges, replicas }
    }

    async fn suffer(&self, setting: &Setting) {
        let pace = |lane| Pace::new(self.seed, lane, setting.length, setting.pause);
        tokio::join!(
            self.edges.suffer(pace("edges"), &self.load),
            self.replicas.suffer(pace("replicas"), &self.load),
            self.replicas.watch(setting.length),
        );
    }

    async fn judge(self) -> Verdict {
        let Self { world, seed, length, load, edges, replicas } = self;
        let begun = Instant::now();
        let history = load.finish().await;
        let (drained, hits) = (begun.elapsed(), history.hits_by_quarter());
        println!("seed {seed}: {}; drained within {drained:.0?}; hits by quarter {hits:.1?}", history.figures());
        println!("seed {seed}: longest silence {}", history.longest_silence());
        let repeating = history.faults.iter().filter(|fault| fault.repeats_answers()).count();
        let without_cache = history.faults.iter().filter(|fault| fault.struck == Struck::Redis).count();
        let budget = Budget {
            in_crowds: CROWD,
            extra_jobs: without_cache * ANEW,
            settling: SETTLING,
            deaths_of_a_fault: DEATHS,
            ..Budget::of(repeating, WINDOW).with_skew(Duration::from_secs(2))
        };
        println!(
            "seed {seed}: {} duplicates where the faults explain {}, {} in crowds, {} Jobs more where they explain {}",
            history.duplicates(false),
            budget.duplicates,
            history.duplicates(true),
            history.extra_jobs(),
            budget.extra_jobs
        );
        let broken = history.judge(&budget);
        // While there is somebody who lets go.
        world.settled().await;
        let held = replicas.judge(seed, length).await;
        drop(edges);
        // The few hits of a short run are those of the faults that they meet.
        let drift = (length >= LONG).then(|| vitals::drift(&hits)).flatten();
        let others: Vec<_> = held.into_iter().chain(drift).collect();
        let wrong = !broken.is_empty() || !others.is_empty();
        let report = || format!("seed {seed}: {}\n{}", history.report(&broken), others.join("\n"));
        Verdict { recoveries: history.recoveries(), wrong: wrong.then(report) }
    }
}

struct Verdict {
    recoveries: Vec<Recovery>,
    wrong: Option<String>,
}

/// For each kind of fault and for its end: how often, and how long until the next answer and until all that were owed then.
fn table<'a>(recoveries: impl Iterator<Item = &'a Recovery>) -> String {
    let mut kinds: BTreeMap<&str, (Vec<Duration>, Vec<Duration>)> = BTreeMap::new();
    for Recovery { fault, next, all } in recoveries {
        let (nexts, alls) = kinds.entry(fault).or_default();
        nexts.push(*next);
        alls.push(*all);
    }
    let row = |(fault, (mut next, mut all)): (&str, (Vec<Duration>, Vec<Duration>))| {
        next.sort();
        all.sort();
        let (middle, last) = (next.len() / 2, next.len() - 1);
        format!(
            "  {:4} × {fault}: next answer after {:.1?} (median), {:.1?} (most); all that was owed after {:.1?}, {:.1?}",
            next.len(),
            next[middle],
            next[last],
            all[middle],
            all[last]
        )
    };
    kinds.into_iter().map(row).collect::<Vec<_>>().join("\n")
}
