//! The API server's time. When a Job or a pod came to be is told by its clock, so how long ago that is cannot
//! be told by ours: an hour's difference would give up every Job at once, or none.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::fmt::rfc2822;
use jiff::{SignedDuration, Timestamp};

/// A `Date` header is in whole seconds and some time under way: smaller differences are none.
const IN_STEP: i64 = 2;

/// Answers that are looked at. One that is late, or read late, puts the server's clock back by that; so the one counts that
/// puts it furthest ahead.
const SAMPLES: usize = 8;

/// What the API server's clock says, as its last answers said it; and by this process' own where they are in step.
#[derive(Debug, Clone, Default)]
pub struct ServerTime(Arc<Mutex<VecDeque<Sample>>>);

/// Told apart from this process' wall clock, which may be put forward or back meanwhile.
#[derive(Debug, Clone, Copy)]
struct Sample {
    theirs: Timestamp,
    heard: Instant,
}

impl ServerTime {
    pub fn now(&self) -> Timestamp {
        Timestamp::now().saturating_add(self.ahead()).unwrap_or(Timestamp::MAX)
    }

    /// A deadline of ours as it stands on a Job. Never earlier: a machine that has slept takes the server for one that is
    /// behind until it hears of it, and nobody may be told for that to have come too late.
    pub fn deadline_there(&self, ours: Timestamp) -> Timestamp {
        ours.saturating_add(self.ahead().max(SignedDuration::ZERO)).unwrap_or(Timestamp::MAX)
    }

    /// The deadline that stands on a Job, as it was given.
    pub fn deadline_here(&self, theirs: Timestamp) -> Timestamp {
        theirs.saturating_sub(self.ahead().max(SignedDuration::ZERO)).unwrap_or(Timestamp::MAX)
    }

    /// By how much it is ahead of this process' time; in whole seconds.
    pub fn ahead(&self) -> SignedDuration {
        self.ahead_of(Timestamp::now(), Instant::now())
    }

    fn ahead_of(&self, ours: Timestamp, now: Instant) -> SignedDuration {
        let theirs = |sample: &Sample| {
            let since = now.saturating_duration_since(sample.heard);
            sample.theirs.as_second().saturating_add_unsigned(since.as_secs())
        };
        let ahead = self.samples().iter().map(theirs).max().map_or(0, |theirs| theirs - ours.as_second());
        SignedDuration::from_secs(if ahead.abs() <= IN_STEP { 0 } else { ahead })
    }

    /// Follows the `Date` header of an answer; one that cannot be read says nothing.
    pub(super) fn follow(&self, headers: &http::HeaderMap) {
        let date = headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
        let Some(theirs) = date.and_then(|date| rfc2822::parse(date).ok()) else { return };
        self.hear(theirs.timestamp(), Instant::now());
    }

    fn hear(&self, theirs: Timestamp, heard: Instant) {
        let mut samples = self.samples();
        if samples.len() == SAMPLES {
            samples.pop_front();
        }
        samples.push_back(Sample { theirs, heard });
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        // Whatever a panic leaves undone is one sample more or less.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let (at, heard) = (Timestamp::UNIX_EPOCH, Instant::now());
        for (seconds, expected) in [(2, 0), (3, 3), (-2, 0), (-3, -3)] {
            let time = ServerTime::default();
            time.hear(at + SignedDuration::from_secs(seconds), heard);
            assert_eq!(time.ahead_of(at, heard).as_secs(), expected);
        }
    }

    #[test]
    fn an_answer_that_is_read_late_puts_no_clock_back() {
        let (time, at, heard) = (ServerTime::default(), Timestamp::UNIX_EPOCH, Instant::now());
        let after =
            |seconds| (at + SignedDuration::from_secs(seconds), heard + Duration::from_secs(seconds.unsigned_abs()));
        time.hear(at, heard);
        for _ in 1..SAMPLES {
            let (now, late) = after(10);
            time.hear(at, late);
            assert_eq!(time.ahead_of(now, late).as_secs(), 0);
        }
        let (now, late) = after(10);
        time.hear(at, late);
        assert_eq!(time.ahead_of(now, late).as_secs(), -10, "nobody says otherwise any more");
    }

    #[test]
    fn when_this_process_puts_its_clock_forward_the_server_does_not_go_along() {
        let (time, at, heard) = (ServerTime::default(), Timestamp::UNIX_EPOCH, Instant::now());
        time.hear(at + SignedDuration::from_secs(60), heard);
        assert_eq!(time.ahead_of(at, heard).as_secs(), 60);
        assert_eq!(time.ahead_of(at + SignedDuration::from_secs(60), heard).as_secs(), 0);
    }

    #[test]
    fn a_deadline_goes_along_with_a_server_that_is_ahead_and_not_with_one_that_is_behind() {
        for (hours, moved) in [(1, 3600), (-1, 0)] {
            let (time, mut headers) = (ServerTime::default(), http::HeaderMap::new());
            headers.insert(http::header::DATE, header(hours).parse().unwrap());
            time.follow(&headers);
            let there = time.deadline_there(Timestamp::UNIX_EPOCH);
            assert!((there.as_second() - moved).abs() <= 1, "{hours} h: {there}");
            assert!(time.deadline_here(there).as_second().abs() <= 1);
        }
    }
}
