//! The API server's time. When a Job or a pod came to be is told by its clock, so how long ago that is cannot
//! be told by ours: an hour's difference would give up every Job at once, or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};

/// A `Date` header is in whole seconds and some time under way: smaller differences are none.
const IN_STEP: i64 = 2;

/// By how many seconds the API server is ahead of this process, as its last answer said.
#[derive(Debug, Clone, Default)]
pub struct ServerTime(Arc<AtomicI64>);

impl ServerTime {
    pub fn now(&self) -> Timestamp {
        Timestamp::now().saturating_add(self.ahead()).unwrap_or(Timestamp::MAX)
    }

    /// What it is there when it is `ours` here.
    pub fn at(&self, ours: Timestamp) -> Timestamp {
        ours.saturating_add(self.ahead()).unwrap_or(ours)
    }

    /// What it is here when it is `theirs` there.
    pub fn here_at(&self, theirs: Timestamp) -> Timestamp {
        theirs.saturating_sub(self.ahead()).unwrap_or(theirs)
    }

    /// By how much it is ahead of this process' time; in whole seconds.
    pub fn ahead(&self) -> SignedDuration {
        SignedDuration::from_secs(self.0.load(Ordering::Relaxed))
    }

    /// Follows the `Date` header of an answer; one that cannot be read says nothing.
    pub(super) fn follow(&self, headers: &http::HeaderMap) {
        let date = headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
        let Some(theirs) = date.and_then(|date| rfc2822::parse(date).ok()) else { return };
        self.set(theirs.timestamp(), Timestamp::now());
    }

    fn set(&self, theirs: Timestamp, ours: Timestamp) {
        let ahead = theirs.as_second() - ours.as_second();
        self.0.store(if ahead.abs() <= IN_STEP { 0 } else { ahead }, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead_by(date: &str) -> i64 {
        let (time, mut headers) = (ServerTime::default(), http::HeaderMap::new());
        headers.insert(http::header::DATE, date.parse().unwrap());
        time.follow(&headers);
        time.now().as_second() - Timestamp::now().as_second()
    }

    fn header(hours: i64) -> String {
        let time = Timestamp::now() + SignedDuration::from_hours(hours);
        time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    #[test]
    fn it_follows_the_server_forwards_and_backwards_and_ignores_what_is_no_date() {
        for (hours, expected) in [(0, 0), (1, 3600), (-1, -3600)] {
            let ahead = ahead_by(&header(hours));
            assert!((ahead - expected).abs() <= 1, "{hours} h: {ahead}");
        }
        assert_eq!(ahead_by("yesterday"), 0);
    }

    #[test]
    fn a_second_or_two_is_no_difference() {
        let (time, at) = (ServerTime::default(), Timestamp::UNIX_EPOCH);
        for (seconds, expected) in [(2, 0), (3, 3), (-2, 0), (-3, -3)] {
            time.set(at + SignedDuration::from_secs(seconds), at);
            assert_eq!(time.0.load(Ordering::Relaxed), expected);
        }
    }
}
