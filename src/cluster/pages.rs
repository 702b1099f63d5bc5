//! Lists, a page at a time: a namespace may hold more objects than one answer should.

use std::time::Duration;

use kube::Api;
use kube::api::ListParams;
use serde::de::DeserializeOwned;

use super::{Error, call};

/// Objects in one page.
const PAGE: u32 = 500;

/// A list under way.
pub(super) struct Pages<K> {
    api: Api<K>,
    action: &'static str,
    call_timeout: Duration,
    /// What to ask for next; `None` after the last page.
    next: Option<ListParams>,
}

impl<K: Clone + DeserializeOwned + std::fmt::Debug> Pages<K> {
    pub(super) fn of(api: Api<K>, action: &'static str, selector: &str, call_timeout: Duration) -> Self {
        Self { api, action, call_timeout, next: Some(ListParams::default().labels(selector).limit(PAGE)) }
    }

    /// The next page; `None` when all were seen.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<K>>, Error> {
        let Some(params) = self.next.take() else { return Ok(None) };
        let list = call(self.action, self.call_timeout, self.api.list(&params)).await?;
        let more = list.metadata.continue_.filter(|token| !token.is_empty());
        self.next = more.map(|token| params.continue_token(&token));
        Ok(Some(list.items))
    }
}
