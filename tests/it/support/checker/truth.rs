//! Whether what was told is what happened.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::answers::recorded;
use super::history::{Asked, Deadline, End, Mode, Struck, Told, Wish, Work};
use super::index::{Index, Story};
use super::{Budget, Invariant, Violation};

pub(super) fn judge(index: &Index<'_>, budget: &Budget) -> Vec<Violation> {
    let events = &index.history.events;
    let asked = events.iter().filter_map(|told| Some((told, index.request(&told.request)?)));
    let judged = asked.filter_map(|(told, asked)| {
        let (invariant, what) = one(index, budget, told, asked).err()?;
        Some(Violation::of(invariant, &asked.id, format!("{} was told {}: {what}", asked.id, told.state)))
    });
    judged.chain(two_results(index)).chain(unrecorded(index)).collect()
}

/// So many deliveries may end before the broker gives a request up: the delivery limit of its queue.
const DELIVERIES: usize = 20;

type Verdict = Result<(), (Invariant, String)>;

fn one(index: &Index<'_>, budget: &Budget, told: &Told, asked: &Asked) -> Verdict {
    may_be_told(index, budget, told, asked)?;
    match &asked.wish {
        Wish::Cancel(_) if told.state == "rejected" => Ok(()),
        Wish::Cancel(target) => cancelled(index, told, target),
        Wish::Run { work, mode, .. } => {
            if told.state == "succeeded" {
                result(told, work)?;
            }
            if told.served_by == "cache" {
                hit(index, budget, told, *mode)?;
            }
            job(index, told, work)
        }
    }
}

/// Whether the request can come to this at all.
fn may_be_told(index: &Index<'_>, budget: &Budget, told: &Told, asked: &Asked) -> Verdict {
    let legal = match (told.state.as_str(), &asked.wish) {
        // Whoever took it in hand died, for one reason or another.
        ("rejected", _) if told.code == "request.poison" => {
            deaths(index, budget, asked, told) * budget.deaths_of_a_fault > DELIVERIES
        }
        ("succeeded", Wish::Cancel(_)) => true,
        (_, Wish::Cancel(_)) => false,
        ("cancelled", _) => index.is_cancelled(&asked.id),
        ("expired", Wish::Run { deadline, .. }) => *deadline != Deadline::None,
        // One that is delivered again may have been told so in time, before whoever told it died.
        ("succeeded", Wish::Run { deadline: Deadline::Past, .. }) if told.served_by == "cache" => {
            deaths(index, budget, asked, told) > 0
        }
        (_, Wish::Run { deadline: Deadline::Past, .. }) => false,
        ("succeeded", Wish::Run { work, .. }) => work.output.is_some(),
        ("failed", Wish::Run { work, .. }) => work.output.is_none() && told.code == "job.failed",
        ("rejected", Wish::Run { mode, .. }) => *mode == Mode::Only && told.code == "cache.miss",
        _ => false,
    };
    let what = || format!("that is nothing it can come to (code {:?})", told.code);
    legal.then_some(()).ok_or_else(|| (Invariant::I4, what()))
}

/// What may have ended a delivery of the request before it was answered: also what had begun before it was asked.
fn deaths(index: &Index<'_>, budget: &Budget, asked: &Asked, told: &Told) -> usize {
    let from = asked.at.saturating_sub(budget.settling);
    let faults = index.history.faults.iter();
    faults.filter(|fault| fault.ends_deliveries() && fault.was_between(from, told.at)).count()
}

/// SHA-256 in hex.
pub(crate) fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

/// The bytes are those of its digest, of its parameters, and of a pod of the Job that is named.
fn result(told: &Told, work: &Work) -> Verdict {
    let wrong = |what: String| Err((Invariant::I4, what));
    let Some(text) = &told.text else { return wrong("there is no result".into()) };
    if told.sha256.as_deref() != Some(digest(text.as_bytes()).as_str()) {
        return wrong(format!("the digest is not that of the bytes {text:?}"));
    }
    let written = text.strip_suffix('\n').and_then(|line| line.rsplit_once(' '));
    let Some((output, pod)) = written else { return wrong(format!("no pod writes {text:?}")) };
    if Some(output) != work.output.as_deref() {
        return wrong(format!("the result {output:?} is not that of its parameters, {:?}", work.output));
    }
    if !pod.starts_with(&format!("{}-", told.job)) {
        return wrong(format!("the pod {pod} that wrote it is none of the Job {} that is named", told.job));
    }
    Ok(())
}

fn hit(index: &Index<'_>, budget: &Budget, told: &Told, mode: Mode) -> Verdict {
    let wrong = |what: String| Err((Invariant::I5, what));
    if told.state != "succeeded" {
        return wrong("a failure came from the cache".into());
    }
    if matches!(mode, Mode::Refresh | Mode::Bypass) {
        return wrong(format!("{mode:?} takes nothing from the cache"));
    }
    match index.jobs.get(told.job_uid.as_str()).and_then(Story::end) {
        Some((_, End::Succeeded)) => {}
        _ => return wrong(format!("the Job {} did not succeed", told.job)),
    }
    let ended = index.jobs[told.job_uid.as_str()].end().map(|(at, _)| at).unwrap_or_default();
    if told.at + budget.skew < ended {
        return wrong(format!("it is the result of {}, which had not ended", told.job));
    }
    Ok(())
}

/// The Job that is named has done what is said, for this key.
fn job(index: &Index<'_>, told: &Told, work: &Work) -> Verdict {
    if !matches!(told.state.as_str(), "succeeded" | "failed") {
        return Ok(());
    }
    let invariant = if told.served_by == "cache" { Invariant::I5 } else { Invariant::I4 };
    let wrong = |what: String| Err((invariant, what));
    let Some(story) = index.jobs.get(told.job_uid.as_str()) else {
        return wrong(format!("the Job {} ({}) that is named was never there", told.job, told.job_uid));
    };
    if story.first().key != told.key {
        return wrong(format!("the Job {} is of the key {}, not {}", told.job, story.first().key, told.key));
    }
    if story.first().container != work.container {
        return wrong(format!("the Job {} computes something else", told.job));
    }
    match (told.state.as_str(), story.end().map(|(_, end)| end)) {
        ("succeeded", Some(End::Succeeded)) | ("failed", Some(End::Failed)) => Ok(()),
        (_, end) => wrong(format!("the Job {} came to {end:?}", told.job)),
    }
}

/// The answer to a cancellation says what became of the request.
fn cancelled(index: &Index<'_>, told: &Told, target: &str) -> Verdict {
    let outcome = told.outcome.as_deref().unwrap_or_default();
    let states: Vec<_> = index.events(target).iter().map(|told| told.state.as_str()).collect();
    let true_ = match outcome {
        "cancelled" => states.contains(&"cancelled"),
        // Sent twice, one of the two may have been cancelled.
        "finished" => states.is_empty() || states.iter().any(|state| *state != "cancelled"),
        "awaited" => true,
        // Redis did not say whether it remembers.
        "not_found" => index.history.faults.iter().any(|fault| fault.struck == Struck::Redis),
        _ => false,
    };
    let what = || format!("it says {outcome:?}, and {target} was told {states:?}");
    true_.then_some(()).ok_or_else(|| (Invariant::I4, what()))
}

/// A Job has one result, whoever is told it.
fn two_results(index: &Index<'_>) -> Vec<Violation> {
    let mut told: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for event in index.history.events.iter().filter(|event| !event.job_uid.is_empty()) {
        if let Some(sha256) = &event.sha256 {
            told.entry(&event.job_uid).or_default().entry(sha256).or_insert(&event.request);
        }
    }
    let two = told.into_iter().filter(|(_, results)| results.len() > 1);
    let violation = |(uid, results): (&str, BTreeMap<&str, &str>)| Violation {
        invariant: Invariant::I4,
        requests: results.values().map(|request| (*request).to_owned()).collect(),
        what: format!("the Job {uid} was told with {} results: {results:?}", results.len()),
    };
    two.map(violation).collect()
}

/// What the waiters of a Job were told is what it was recorded to have come to.
fn unrecorded(index: &Index<'_>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for event in index.history.events.iter().filter(|event| event.state == "succeeded" && event.served_by != "cache") {
        let mut records = index.jobs_of(&event.request).filter_map(recorded).peekable();
        if records.peek().is_some() && !records.any(|record| Some(record) == event.sha256.as_deref()) {
            let what = format!("{} was told another result than its Job recorded", event.request);
            violations.push(Violation::of(Invariant::I4, &event.request, what));
        }
    }
    violations
}
