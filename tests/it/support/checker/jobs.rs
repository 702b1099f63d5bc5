//! Whether no more Jobs were there than should be, and each as its template says.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Asked, Deadline, Mode, Wish};
use super::index::{Index, Story};
use super::{Budget, Invariant, Violation};

pub(super) fn judge(index: &Index<'_>, budget: &Budget) -> Vec<Violation> {
    let mut violations = two_live(index);
    violations.extend(too_many(index, budget));
    violations.extend(unexplained(index).iter().filter_map(|unexplained| inexplicable(index, budget, unexplained)));
    violations.extend(index.jobs.values().flat_map(|story| changed(index, story)));
    violations.extend(index.history.requests.iter().filter_map(|asked| unwanted(index, asked)));
    violations.extend(two_keys(index));
    violations
}

/// Two Jobs of one key that had not ended, at one point of the API server's history.
fn two_live(index: &Index<'_>) -> Vec<Violation> {
    let mut live: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut violations = Vec::new();
    for sight in &index.history.jobs {
        let story = &index.jobs[sight.uid.as_str()];
        if index.is_alone(story) {
            continue;
        }
        let of_key = live.entry(&sight.key).or_default();
        if sight.gone || sight.end.is_some() {
            of_key.remove(sight.uid.as_str());
        } else if of_key.insert(&sight.uid) && of_key.len() > 1 {
            let claims = of_key.iter().flat_map(|uid| index.jobs[uid].claims().first());
            violations.push(Violation {
                invariant: Invariant::I2,
                requests: claims.map(|claim| claim.request.clone()).collect(),
                what: format!("two Jobs of the key {} live: {of_key:?}", sight.key),
            });
        }
    }
    violations
}

/// A key of which more Jobs were there than its requests explain.
pub(super) struct Unexplained<'a> {
    key: &'a str,
    stories: Vec<&'a Story<'a>>,
    explained: usize,
    pub(super) extra: usize,
}

/// A key is computed once, and once more for whoever asked for that, or whose run failed or was cancelled.
pub(super) fn unexplained<'a>(index: &'a Index<'_>) -> Vec<Unexplained<'a>> {
    let mut jobs: BTreeMap<&str, Vec<&Story<'_>>> = BTreeMap::new();
    for story in index.jobs.values() {
        jobs.entry(&story.first().key).or_default().push(story);
    }
    let of_key = |(key, stories): (&'a str, Vec<&'a Story<'a>>)| {
        let explained = explained(index, &stories);
        let extra = stories.len().saturating_sub(explained);
        (extra > 0).then_some(Unexplained { key, stories, explained, extra })
    };
    jobs.into_iter().filter_map(of_key).collect()
}

fn too_many(index: &Index<'_>, budget: &Budget) -> Vec<Violation> {
    let all = unexplained(index);
    if all.iter().map(|unexplained| unexplained.extra).sum::<usize>() <= budget.extra_jobs {
        return Vec::new();
    }
    all.iter().map(|unexplained| unexplained.violation("are explained", unexplained.explained)).collect()
}

/// A result is computed anew only where Redis has failed since a Job of its key had ended.
fn inexplicable(index: &Index<'_>, budget: &Budget, unexplained: &Unexplained<'_>) -> Option<Violation> {
    let mut stories = unexplained.stories.clone();
    stories.sort_by_key(|story| story.first().at);
    let failed_between = |before: &Story<'_>, after: &Story<'_>| {
        let ended = before.end().map_or(before.first().at, |(at, _)| at);
        let from = ended.saturating_sub(budget.skew + budget.settling);
        index.history.redis_failed(from, after.first().at + budget.skew)
    };
    let anew = stories.windows(2).filter(|pair| failed_between(pair[0], pair[1])).count();
    let explained = unexplained.explained + anew;
    (unexplained.extra > anew).then(|| unexplained.violation("are explained by when Redis failed", explained))
}

impl Unexplained<'_> {
    fn violation(&self, how: &str, explained: usize) -> Violation {
        let Self { key, stories, .. } = self;
        let names: Vec<_> = stories.iter().map(|story| (&story.first().name, &story.first().uid)).collect();
        Violation {
            invariant: Invariant::Budget,
            requests: stories.iter().filter_map(|story| Some(story.claims().first()?.request.clone())).collect(),
            what: format!("{} Jobs of the key {key}, where {explained} {how}: {names:?}", stories.len()),
        }
    }
}

fn explained(index: &Index<'_>, stories: &[&Story<'_>]) -> usize {
    let Some(work) =
        stories.iter().flat_map(|story| story.claims()).find_map(|claim| index.request(&claim.request)?.work())
    else {
        return 0;
    };
    let equal = index.history.requests.iter().filter(|asked| asked.work().is_some_and(|own| own.key == work.key));
    let tries = |asked: &Asked| match asked.mode() {
        _ if work.output.is_none() || index.is_cancelled(&asked.id) => asked.sent,
        Some(Mode::Refresh | Mode::Bypass) => asked.sent,
        _ => 0,
    };
    equal.map(tries).sum::<usize>() + usize::from(work.output.is_some())
}

/// The Job is what the operator's template makes of the parameters of everyone who waits on it.
fn changed(index: &Index<'_>, story: &Story<'_>) -> Option<Violation> {
    let (sight, claims) = (story.first(), story.claims());
    if claims.is_empty() {
        let what = format!("the Job {} stands for no request", sight.name);
        return Some(Violation { invariant: Invariant::I10, requests: Vec::new(), what });
    }
    claims.iter().find_map(|claim| {
        let Some(work) = index.request(&claim.request).and_then(Asked::work) else {
            let what = format!("the Job {} stands for {}, which asked for none", sight.name, claim.request);
            return Some(Violation::of(Invariant::I10, &claim.request, what));
        };
        (work.container != sight.container).then(|| {
            let what = format!(
                "the Job {} runs {} where {} asked for {}",
                sight.name, sight.container, claim.request, work.container
            );
            Violation::of(Invariant::I10, &claim.request, what)
        })
    })
}

/// A Job for a request that must not have one.
fn unwanted(index: &Index<'_>, asked: &Asked) -> Option<Violation> {
    let why = match &asked.wish {
        Wish::Run { deadline: Deadline::Past, .. } => "its deadline had passed",
        Wish::Run { mode: Mode::Only, .. } => "it wanted a cached result only",
        _ => return None,
    };
    let story = index.jobs_of(&asked.id).next()?;
    let what = format!("the Job {} stands for {}, although {why}", story.first().name, asked.id);
    Some(Violation::of(Invariant::I4, &asked.id, what))
}

/// Equal computations have one key, and different ones different keys.
fn two_keys(index: &Index<'_>) -> Vec<Violation> {
    let mut keys: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    let mut works: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for told in index.history.events.iter().filter(|told| !told.key.is_empty()) {
        let Some(work) = index.request(&told.request).and_then(Asked::work) else { continue };
        keys.entry(&work.key).or_default().insert(&told.key, &told.request);
        works.entry(&told.key).or_default().insert(&work.key, &told.request);
    }
    let mixed = keys.into_iter().chain(works).filter(|(_, others)| others.len() > 1);
    let violation = |(one, others): (&str, BTreeMap<&str, &str>)| Violation {
        invariant: Invariant::I5,
        requests: others.values().map(|request| (*request).to_owned()).collect(),
        what: format!("{one} goes with {:?}", others.keys()),
    };
    mixed.map(violation).collect()
}
