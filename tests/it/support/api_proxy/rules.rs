//! Which calls meet which fault.

use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Method, Request};

use super::Lie;

/// Which calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Calls {
    Any,
    Creates,
    Gets,
    JobLists,
    PodLists,
    JobPatches,
    PodPatches,
    Deletes,
    Logs,
    JobWatches,
    /// Renewals, and what creates a Lease.
    LeaseWrites,
    LeaseWatches,
}

impl Calls {
    pub(super) fn are_watches(self) -> bool {
        matches!(self, Self::JobWatches | Self::LeaseWatches)
    }
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not carried out.
    Says(u16),
    /// It is carried out, and only so many lines of the answer are given.
    SaysLines(usize),
    /// It is carried out, and the answer is another one.
    CommitsAndSays(u16),
    /// It is carried out, and the connection ends before the answer.
    CommitsAndResets,
    Resets,
    /// It is carried out, and never answered.
    CommitsAndHangs,
    /// It is never answered, and carried out after so long.
    CommitsLate(Duration),
    Hangs,
    Slow(Duration),
    /// Calls are worked on one after the other, each for so long, those too whose caller has gone.
    Crowded(Duration),
    /// Of a list of Jobs: it is what such a list was once, by its place among them.
    SaysList(usize),
    /// Of a watch.
    Lies(Lie),
}

pub(super) struct Rule {
    pub(super) calls: Calls,
    /// `None`: in any, or in none.
    pub(super) namespace: Option<String>,
    pub(super) fault: Fault,
    pub(super) left: usize,
}

impl Rule {
    pub(super) fn concerns(&self, request: &Request<Incoming>) -> bool {
        let is_there = |namespace: &String| request.uri().path().contains(&format!("/namespaces/{namespace}/"));
        self.left > 0 && calls_of(request).contains(&self.calls) && self.namespace.as_ref().is_none_or(is_there)
    }
}

pub(super) fn calls_of(request: &Request<Incoming>) -> Vec<Calls> {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let (jobs, watch) = (path.contains("/jobs"), query.contains("watch=true"));
    let of_kind = match *request.method() {
        // Any call but these: who they are is not what most faults are about.
        Method::POST | Method::PATCH if path.contains("/leases") => return vec![Calls::LeaseWrites],
        Method::GET if watch && path.contains("/leases") => return vec![Calls::LeaseWatches],
        _ if path.contains("/leases") => return Vec::new(),
        Method::POST if jobs => Calls::Creates,
        Method::PATCH if jobs => Calls::JobPatches,
        Method::PATCH if path.contains("/pods") => Calls::PodPatches,
        Method::DELETE => Calls::Deletes,
        Method::GET if watch && jobs => return vec![Calls::JobWatches],
        Method::GET if watch => return Vec::new(),
        Method::GET if path.ends_with("/log") => Calls::Logs,
        Method::GET if path.ends_with("/jobs") => return vec![Calls::JobLists, Calls::Gets, Calls::Any],
        Method::GET if path.ends_with("/pods") => return vec![Calls::PodLists, Calls::Gets, Calls::Any],
        Method::GET => Calls::Gets,
        _ => return Vec::new(),
    };
    vec![of_kind, Calls::Any]
}
