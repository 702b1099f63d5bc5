//! Whether each request was answered, where it asked for it, and always the same.

use std::collections::BTreeSet;

use super::history::{Asked, Mode, Told};
use super::index::{Index, Story};
use super::{Budget, Invariant, Violation};

pub(super) fn judge(index: &Index<'_>, budget: &Budget) -> Vec<Violation> {
    let requests = &index.history.requests;
    let mut violations: Vec<_> = requests.iter().filter_map(|asked| lost(index, asked)).collect();
    violations.extend(requests.iter().filter_map(|asked| disagreement(index, asked)));
    violations.extend(index.history.events.iter().filter_map(|told| misplaced(index, told)));
    violations.extend(duplicates(index, false, budget.duplicates));
    violations.extend(duplicates(index, true, budget.in_crowds));
    violations.extend(requests.iter().filter_map(|asked| inexplicable(index, budget, asked)));
    violations
}

/// Confirmed, and never answered. Where it was lost says which promise was broken first.
fn lost(index: &Index<'_>, asked: &Asked) -> Option<Violation> {
    if asked.confirmed.is_none() || !index.events(&asked.id).is_empty() {
        return None;
    }
    let (mut jobs, mut owing) = (0, false);
    for story in index.jobs_of(&asked.id) {
        jobs += 1;
        owing |= story.released().is_none();
    }
    let (invariant, why) = match (jobs, owing) {
        (0, _) if index.history.left.is_empty() => {
            (Invariant::I6, "no Job ever had its waiter and no queue holds it: it was acknowledged too early")
        }
        (0, _) => (Invariant::I1, "no Job ever had its waiter"),
        (_, true) => (Invariant::I1, "its Job still owes the answer"),
        (_, false) => (Invariant::I7, "its Job was let go without it"),
    };
    Some(Violation::of(invariant, &asked.id, format!("{} was confirmed and never answered; {why}", asked.id)))
}

/// A request sent again is a new try, and may come to something else.
fn disagreement(index: &Index<'_>, asked: &Asked) -> Option<Violation> {
    let events = index.events(&asked.id);
    let verdicts: BTreeSet<_> = events.iter().map(|told| (&told.state, &told.sha256)).collect();
    if verdicts.len() > asked.sent && !record_was_lost(index, events) && !was_replaced(index, events) {
        let what = format!("{} was answered in {} ways: {verdicts:?}", asked.id, verdicts.len());
        return Some(Violation::of(Invariant::I3, &asked.id, what));
    }
    let ids: BTreeSet<_> = events.iter().map(|told| (&told.id, &told.state)).collect();
    let states: BTreeSet<_> = events.iter().map(|told| &told.state).collect();
    (ids.len() > states.len()).then(|| {
        let what = format!("equal answers to {} have different event ids: {ids:?}", asked.id);
        Violation::of(Invariant::I3, &asked.id, what)
    })
}

/// Whether nothing knows of the first answer any more: the record or the value was lost with Redis, and no Job of its own
/// stands behind it, or that Job has made room for another run. Delivered again, or tried again after a call without an
/// answer, the request comes to what is true then.
fn record_was_lost(index: &Index<'_>, events: &[&Told]) -> bool {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return false };
    let without_job = first.job_uid.is_empty() || first.served_by == "cache";
    let another_job = !last.job_uid.is_empty() && last.job_uid != first.job_uid;
    let is_gone = || index.jobs.get(first.job_uid.as_str()).and_then(Story::gone).is_some_and(|gone| gone < last.at);
    index.history.redis_failed(first.at, last.at) && (without_job || another_job && is_gone())
}

/// Whether all are hits, and somebody who wanted a new result has replaced the value between them: of hits there is no
/// record.
fn was_replaced(index: &Index<'_>, events: &[&Told]) -> bool {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return false };
    let replaces = |told: &&Told| {
        let claims = index.jobs.get(told.job_uid.as_str()).map(Story::claims).unwrap_or_default();
        let modes = claims.iter().filter_map(|claim| index.request(&claim.request)?.mode());
        modes.into_iter().any(|mode| matches!(mode, Mode::Refresh | Mode::Bypass))
    };
    events.iter().all(|told| told.served_by == "cache") && first.job_uid != last.job_uid && replaces(last)
}

fn misplaced(index: &Index<'_>, told: &Told) -> Option<Violation> {
    let violation = |invariant, what: String| Some(Violation::of(invariant, &told.request, what));
    let Some(asked) = index.request(&told.request) else {
        return violation(Invariant::I1, format!("an answer to {}, which nobody sent", told.request));
    };
    if told.correlation_id != asked.correlation_id {
        let what = format!(
            "an answer to {} with the correlation id {:?} instead of {:?}",
            asked.id, told.correlation_id, asked.correlation_id
        );
        return violation(Invariant::I1, what);
    }
    if told.queue != asked.reply_to {
        let what = format!("an answer to {} came to {} instead of {}", asked.id, told.queue, asked.reply_to);
        return violation(Invariant::I10, what);
    }
    if !told.id.starts_with(&format!("{}/", asked.id)) || !told.id.ends_with(&format!("/{}", told.state)) {
        return violation(Invariant::I3, format!("the event id {} is not made of its request and state", told.id));
    }
    None
}

/// At least once, yet no more often than the faults explain.
fn duplicates(index: &Index<'_>, in_crowd: bool, explained: usize) -> Option<Violation> {
    let requests = index.history.requests.iter().filter(|asked| asked.in_crowd == in_crowd);
    let often: Vec<_> = requests.filter(|asked| index.duplicates(asked) > 0).collect();
    let count = index.history.duplicates(in_crowd);
    (count > explained).then(|| Violation {
        invariant: Invariant::Budget,
        requests: often.iter().map(|asked| asked.id.clone()).collect(),
        what: format!("{count} duplicate answers, where the faults explain {explained}"),
    })
}

/// Between an answer and its duplicate something has failed.
fn inexplicable(index: &Index<'_>, budget: &Budget, asked: &Asked) -> Option<Violation> {
    if index.duplicates(asked) == 0 {
        return None;
    }
    let faults = &index.history.faults;
    let between = |before: &Told, after: &Told| {
        let from = before.at.saturating_sub(budget.skew + budget.settling);
        faults.iter().any(|fault| fault.repeats_answers() && fault.was_between(from, after.at + budget.skew))
    };
    let pair = index.events(&asked.id).windows(2).find(|pair| !between(pair[0], pair[1]))?;
    let what = format!("{} was told at {:.3?} and again at {:.3?} without a fault", asked.id, pair[0].at, pair[1].at);
    Some(Violation::of(Invariant::Budget, &asked.id, what))
}

/// Whether the request was told anything by the time of `limit`.
pub(super) fn told_by(index: &Index<'_>, request: &str, limit: std::time::Duration) -> bool {
    index.events(request).iter().any(|told| told.at <= limit)
}

/// The digests that waiters of a Job may have been told by it.
pub(super) fn recorded<'a>(story: &Story<'a>) -> Option<&'a str> {
    story.sights.iter().rev().find_map(|sight| sight.recorded.as_deref())
}
