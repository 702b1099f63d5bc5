//! One request's history, as a reader can follow it.

use std::fmt::Write;
use std::time::Duration;

use super::history::{Asked, History, Sight, Told};

/// Everything that was recorded of a request, of its Jobs, and of the faults, in order.
pub(super) fn of(history: &History, request: &str) -> String {
    let mut lines: Vec<(Duration, String)> =
        history.faults.iter().map(|fault| (fault.at, format!("--- {}", fault.what))).collect();
    let over = history.faults.iter().filter_map(|fault| Some((fault.over?, format!("--- {} over", fault.what))));
    lines.extend(over);
    for asked in history.requests.iter().filter(|asked| asked.id == request) {
        lines.extend(sent(asked));
    }
    lines.extend(history.events.iter().filter(|told| told.request == request).map(|told| (told.at, event(told))));
    let stands = |uid: &str| {
        let mut sights = history.jobs.iter().filter(|sight| sight.uid == uid);
        sights.any(|sight| sight.claims.iter().any(|claim| claim.request == request))
            || history.events.iter().any(|told| told.request == request && told.job_uid == uid)
    };
    let mut before: Vec<&Sight> = Vec::new();
    for sight in history.jobs.iter().filter(|sight| stands(&sight.uid)) {
        let last = before.iter().rev().find(|other| other.uid == sight.uid).copied();
        lines.extend(changes(last, sight, request).into_iter().map(|change| (sight.at, change)));
        before.push(sight);
    }
    lines.sort_by_key(|(at, _)| *at);
    let mut text = format!("  history of {request}\n");
    for (at, line) in lines {
        writeln!(text, "  {:>9.3}s  {line}", at.as_secs_f64()).expect("a String takes all text");
    }
    text
}

fn sent(asked: &Asked) -> Vec<(Duration, String)> {
    let mut lines = vec![(asked.at, format!("sent: {:?}, answers to {}", asked.wish, asked.reply_to))];
    if let Some(at) = asked.confirmed {
        lines.push((at, format!("confirmed, after being sent {} times", asked.sent)));
    }
    lines
}

fn event(told: &Told) -> String {
    let Told { id, state, served_by, code, job, job_uid, text, .. } = told;
    format!("told {state} {served_by} {code} as {id}; {job} {job_uid}: {text:?}")
}

fn changes(before: Option<&Sight>, after: &Sight, request: &str) -> Vec<String> {
    let job = format!("Job {} {}", after.name, &after.uid);
    let Some(before) = before else { return vec![format!("{job}: there, finalizer {}", after.finalizer)] };
    let claim = |sight: &Sight| sight.claims.iter().find(|claim| claim.request == request).cloned();
    let mut changes = Vec::new();
    if claim(before) != claim(after) {
        changes.push(format!("{job}: claim {:?}", claim(after)));
    }
    if before.end != after.end {
        changes.push(format!("{job}: {:?}", after.end));
    }
    if before.finalizer != after.finalizer {
        changes.push(format!("{job}: finalizer {}, recorded {:?}", after.finalizer, after.recorded));
    }
    if before.gone != after.gone {
        changes.push(format!("{job}: gone"));
    }
    changes
}
