//! Jobs that were created or joined of late, so that the next equal request need not read the whole Job again, which
//! can carry 64 KiB of waiters. What is known here may be outdated: every patch tests it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::join::Target;
use crate::domain::job::Load;
use crate::domain::key::RequestKey;

/// Keys that are joined at the same time; beyond it all are read anew.
const REMEMBERED: usize = 1024;

#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Mutex<HashMap<RequestKey, KnownJob>>>);

#[derive(Debug)]
struct KnownJob {
    target: Target,
    load: Load,
    /// When it had not ended, as far as is known.
    running_at: Option<Instant>,
    /// The id of the waiter that created it, where that was here.
    creator: Option<String>,
}

impl Known {
    /// The Job, where this waiter need not read it: the same request may have been sent twice at once, and
    /// what its first copy has written on the Job that it created must not be written over. Nor if it may have ended longer
    /// ago than `max_age`.
    pub(super) fn to_join(&self, lock: &RequestKey, waiter: &str, max_age: Option<Duration>) -> Option<(Target, Load)> {
        let map = self.map();
        let is_new = |job: &KnownJob, most| job.running_at.is_some_and(|at| at.elapsed() < most);
        let fits = |job: &KnownJob| max_age.is_none_or(|most| is_new(job, most));
        let job = map.get(lock).filter(|job| job.creator.as_deref() != Some(waiter) && fits(job))?;
        Some((job.target.clone(), job.load))
    }

    pub(super) fn created(&self, lock: RequestKey, target: Target, load: Load, creator: String, running_at: Instant) {
        self.insert(lock, KnownJob { target, load, running_at: Some(running_at), creator: Some(creator) });
    }

    pub(super) fn joined(&self, lock: RequestKey, target: Target, load: Load, running_at: Option<Instant>) {
        let before = self.map().remove(&lock).filter(|before| before.target == target);
        let running_at = running_at.max(before.as_ref().and_then(|before| before.running_at));
        self.insert(lock, KnownJob { target, load, running_at, creator: before.and_then(|before| before.creator) });
    }

    fn insert(&self, lock: RequestKey, job: KnownJob) {
        let mut map = self.map();
        if map.len() >= REMEMBERED {
            map.clear();
        }
        map.insert(lock, job);
    }

    /// The Job is not what it was.
    pub(super) fn forget(&self, target: &Target) {
        self.map().retain(|_, job| job.target != *target);
    }

    /// It is gone, whatever it was.
    pub(super) fn forget_uid(&self, uid: &str) {
        self.map().retain(|_, job| job.target.uid != uid);
    }

    fn map(&self) -> MutexGuard<'_, HashMap<RequestKey, KnownJob>> {
        // Each change is one insertion or removal, so a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_may_have_ended_longer_ago_than_is_wanted_is_read_before_it_is_joined() {
        let (known, lock) = (Known::default(), RequestKey::from_hex(&"ab".repeat(32)).unwrap());
        let target = Target { namespace: "work".into(), name: "jq-t-x".into(), uid: "u".into(), finalizer_index: 0 };
        let joins = |max_age| known.to_join(&lock, "other", max_age).is_some();
        known.joined(lock, target.clone(), Load::default(), None);
        assert!(joins(None) && !joins(Some(Duration::MAX)), "it is not known to have run at any time");
        let running_at = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
        known.created(lock, target.clone(), Load::default(), "creator".into(), running_at);
        assert!(joins(None) && joins(Some(Duration::from_secs(3600))));
        assert!(!joins(Some(Duration::from_secs(59))) && !joins(Some(Duration::ZERO)));
        known.joined(lock, target, Load::default(), None);
        assert!(joins(Some(Duration::from_secs(3600))), "what was known before");
    }
}
