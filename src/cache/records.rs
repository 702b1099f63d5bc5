//! What is remembered of requests: who was answered or told that its deadline has passed, and what was cancelled.
//! All of it is best effort: without it a request is answered twice, or runs although nobody wants it.

use std::time::{Duration, Instant};

use super::{Store, answered_key, cancelled_key, expired_key};
use crate::domain::earlier::Earlier;
use crate::domain::event::State;
use crate::domain::waiter::Waiter;

/// Longer than a broker redelivers.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// Whoever has marked a waiter as cancelled has told it so, and recorded it, within this; or has died.
pub const ANSWERING: Duration = Duration::from_secs(5);

impl Store {
    /// Remembers that these waiters were answered.
    pub async fn record_answers(&self, answers: &[(&Waiter, State)]) {
        let mut pipeline = redis::pipe();
        for (waiter, state) in answers {
            pipeline
                .cmd("SET")
                .arg(answered_key(&waiter.id()))
                .arg(format!("{} {}", state.as_str(), waiter.received_at))
                .arg("EX")
                .arg(KEPT_FOR.as_secs())
                .ignore();
        }
        if !self.breaker.admits(Instant::now()) {
            return;
        }
        let mut connection = self.connection.clone();
        // What went wrong is in the log and in the health of the cache.
        let _ = self.bounded(self.write_timeout, pipeline.query_async::<()>(&mut connection)).await;
    }

    /// Remembers that a waiter is about to be told that its deadline has passed.
    pub async fn record_expiry(&self, waiter: &Waiter) {
        let mut command = redis::cmd("SET");
        let record = format!("{} {}", State::Expired.as_str(), waiter.received_at);
        command.arg(expired_key(&waiter.id())).arg(record).arg("EX").arg(KEPT_FOR.as_secs());
        // What went wrong is in the log and in the health of the cache.
        let _ = self.ask::<()>(&command, self.write_timeout, &self.metrics.cache_stores).await;
    }

    /// Whether one of the `earlier` tries has had its terminal event, as far as is remembered.
    pub async fn was_answered(&self, waiter: &Waiter, earlier: Earlier) -> bool {
        self.answer_of(waiter).await.is_some_and(|record| concerns(&record, earlier))
    }

    /// Whether this very claim was answered with this.
    pub async fn was_told(&self, waiter: &Waiter, state: State) -> bool {
        let claim = Earlier::Since(waiter.received_at);
        self.answer_of(waiter).await.is_some_and(|record| concerns(&record, claim) && says(&record, state))
    }

    async fn answer_of(&self, waiter: &Waiter) -> Option<Vec<u8>> {
        let mut command = redis::cmd("GET");
        command.arg(answered_key(&waiter.id()));
        self.ask::<Option<Vec<u8>>>(&command, self.write_timeout, &self.metrics.cache_lookups).await.flatten()
    }

    /// Whether this very claim was answered; somebody else may be doing it just now.
    pub async fn is_answered_by(&self, waiter: &Waiter, until: Instant) -> bool {
        loop {
            if self.was_answered(waiter, Earlier::Since(waiter.received_at)).await {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(ANSWERING / 20).await;
        }
    }

    /// Remembers that a request was cancelled, for when it comes. Best effort: `false` when the cache is away.
    pub async fn record_cancellation(&self, producer: Option<&str>, request_id: &str, reason: &str) -> bool {
        let mut command = redis::cmd("SET");
        command.arg(cancelled_key(producer, request_id)).arg(reason).arg("EX").arg(KEPT_FOR.as_secs());
        self.ask::<()>(&command, self.write_timeout, &self.metrics.cache_stores).await.is_some()
    }

    /// Takes a cancellation back that came too late: the same request sent again is a try of its own.
    pub async fn forget_cancellation(&self, producer: Option<&str>, request_id: &str) {
        let mut command = redis::cmd("DEL");
        command.arg(cancelled_key(producer, request_id));
        // What went wrong is in the log and in the health of the cache.
        let _ = self.ask::<()>(&command, self.write_timeout, &self.metrics.cache_stores).await;
    }

    /// The reason, if the request was cancelled.
    pub async fn cancellation(&self, producer: Option<&str>, request_id: &str) -> Option<String> {
        let mut command = redis::cmd("GET");
        command.arg(cancelled_key(producer, request_id));
        self.ask::<Option<String>>(&command, self.write_timeout, &self.metrics.cache_lookups).await.flatten()
    }
}

/// Whether what was told, and when the request had come that it was told to, concerns one of the `earlier` tries.
/// A record without a time may concern any.
pub(super) fn concerns(record: &[u8], earlier: Earlier) -> bool {
    let received_at = std::str::from_utf8(record).ok().and_then(|text| text.split_once(' ')?.1.parse().ok());
    received_at.map_or(earlier.is_possible(), |received_at| earlier.may_be(received_at))
}

fn says(record: &[u8], state: State) -> bool {
    record.split(|byte| *byte == b' ').next() == Some(state.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_concerns_the_tries_that_it_was_made_for_and_one_without_a_time_any() {
        let [before, told, later] = [1, 2, 3].map(|second| jiff::Timestamp::from_second(second).unwrap());
        let record = format!("failed {told}");
        let since = |record: &str, first| concerns(record.as_bytes(), Earlier::Since(first));
        assert_eq!([before, told, later].map(|first| since(&record, first)), [true, true, false]);
        assert!(["failed", "failed ?", "\u{fffd}"].iter().all(|record| since(record, later)));
        assert!(concerns(record.as_bytes(), Earlier::AnyTime) && !concerns(record.as_bytes(), Earlier::None));
    }
}
