//! The answer to a request that prefers a result which has ended to a failure (`cache.stale_if_error`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

use super::Completion;
use super::told::Told;
use crate::cache::Entry;
use crate::domain::job;
use crate::domain::outcome::Outcome;
use crate::domain::waiter::Waiter;

impl Completion {
    /// The kept result that answers the waiter instead of a failure. The end of the Job decides, so that
    /// whoever completes it, and when, comes to the same.
    pub(super) async fn instead(&self, job: &Job, told: &Told, waiter: &Waiter) -> Option<Arc<Entry>> {
        let (Outcome::Failed(_), Some(stale)) = (&told.outcome, waiter.stale_if_error) else { return None };
        let key = job::key(job)?;
        let look = async || self.store.look_up_patiently(&key, None).await.entry;
        let kept = told.kept.get_or_init(look).await.as_ref()?;
        let at = job::finished_at(job).unwrap_or_else(Timestamp::now);
        kept.stands_in(at, Duration::from_secs(stale)).then(|| Arc::clone(kept))
    }
}
