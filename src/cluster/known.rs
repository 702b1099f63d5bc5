//! Jobs that were joined of late, so that the next equal request need not read the whole Job again, which
//! can carry 64 KiB of waiters. What is known here may be outdated: every patch tests it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::join::Target;
use crate::domain::job::Load;
use crate::domain::key::RequestKey;

/// Keys that are joined at the same time; beyond it all are read anew.
const REMEMBERED: usize = 1024;

#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Mutex<HashMap<RequestKey, (Target, Load)>>>);

impl Known {
    pub(super) fn of(&self, lock: &RequestKey) -> Option<(Target, Load)> {
        self.map().get(lock).cloned()
    }

    pub(super) fn remember(&self, lock: RequestKey, target: Target, load: Load) {
        let mut map = self.map();
        if map.len() >= REMEMBERED {
            map.clear();
        }
        map.insert(lock, (target, load));
    }

    /// The Job is not what it was.
    pub(super) fn forget(&self, target: &Target) {
        self.map().retain(|_, (known, _)| known != target);
    }

    fn map(&self) -> MutexGuard<'_, HashMap<RequestKey, (Target, Load)>> {
        // Each change is one insertion or removal, so a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
