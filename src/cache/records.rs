//! What is remembered of requests: who was answered, what was decided without a Job, and what was cancelled.
//! All of it is best effort: without it a request is answered twice, or runs although nobody wants it.

use std::time::{Duration, Instant};

use super::{Store, answered_key, cancelled_key, decided_key};
use crate::domain::decided::Decided;
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
            let (key, record) = (answered_key(&waiter.id()), format!("{} {}", state.as_str(), waiter.received_at));
            pipeline
                .cmd("SET")
                .arg(&key)
                .arg(self.seal.sealed(&key, &record))
                .arg("EX")
                .arg(KEPT_FOR.as_secs())
                .ignore();
        }
        if !self.breaker.admits(Instant::now()) {
            return;
        }
        let mut connection = self.connection.get();
        // What went wrong is in the log and in the health of the cache.
        let _ = self.bounded(self.write_timeout, pipeline.query_async::<()>(&mut connection)).await;
    }

    /// Remembers what a waiter is about to be told.
    pub async fn record_decision(&self, waiter: &Waiter, decided: &Decided) {
        let json = serde_json::to_string(decided).expect("texts, numbers and a time have a JSON form");
        self.remember(&decided_key(&waiter.id()), &format!("{} {json}", waiter.received_at)).await;
    }

    /// `false` where the cache is away; why is in the log and in its health.
    async fn remember(&self, key: &str, record: &str) -> bool {
        let mut command = redis::cmd("SET");
        command.arg(key).arg(self.seal.sealed(key, record)).arg("EX").arg(KEPT_FOR.as_secs());
        self.ask::<()>(&command, self.write_timeout, &self.metrics.cache_stores).await.is_some()
    }

    /// What is remembered under a key; nothing is, that is not ours.
    async fn remembered(&self, key: &str) -> Option<Vec<u8>> {
        let mut command = redis::cmd("GET");
        command.arg(key);
        let lookups = &self.metrics.cache_lookups;
        let found = self.ask::<Option<Vec<u8>>>(&command, self.write_timeout, lookups).await.flatten()?;
        self.seal.opened(key, &found).map(<[u8]>::to_vec)
    }

    /// Whether one of the `earlier` tries has had its terminal event, as far as is remembered.
    pub async fn was_answered(&self, waiter: &Waiter, earlier: Earlier) -> bool {
        self.answer_of(waiter).await.is_some_and(|record| concerns(&record, earlier))
    }

    /// What one of the `earlier` tries was to be told, as far as is remembered.
    pub async fn decision(&self, waiter: &Waiter, earlier: Earlier) -> Option<Decided> {
        decision(&self.remembered(&decided_key(&waiter.id())).await?, earlier)
    }

    /// Whether this very claim was answered with this.
    pub async fn was_told(&self, waiter: &Waiter, state: State) -> bool {
        let claim = Earlier::Since(waiter.received_at);
        self.answer_of(waiter).await.is_some_and(|record| concerns(&record, claim) && says(&record, state))
    }

    async fn answer_of(&self, waiter: &Waiter) -> Option<Vec<u8>> {
        self.remembered(&answered_key(&waiter.id())).await
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
        self.remember(&cancelled_key(producer, request_id), reason).await
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
        String::from_utf8(self.remembered(&cancelled_key(producer, request_id)).await?).ok()
    }
}

/// Whether what was told, and when the request had come that it was told to, concerns one of the `earlier` tries.
/// A record without a time may concern any.
pub(super) fn concerns(record: &[u8], earlier: Earlier) -> bool {
    let received_at = std::str::from_utf8(record).ok().and_then(|text| text.split_once(' ')?.1.parse().ok());
    received_at.map_or(earlier.is_possible(), |received_at| earlier.may_be(received_at))
}

/// What was decided, if that concerns one of the `earlier` tries. A record that does not read is none.
pub(super) fn decision(record: &[u8], earlier: Earlier) -> Option<Decided> {
    let (received_at, json) = std::str::from_utf8(record).ok()?.split_once(' ')?;
    let decided = serde_json::from_str(json).ok()?;
    received_at.parse().is_ok_and(|received_at| earlier.may_be(received_at)).then_some(decided)
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

    #[test]
    fn a_decision_is_that_of_its_try_and_one_that_does_not_read_is_none() {
        let [before, told, later] = [1, 2, 3].map(|second| jiff::Timestamp::from_second(second).unwrap());
        let decided = Decided::Cancelled { reason: "no more".into() };
        let record = format!("{told} {}", serde_json::to_string(&decided).unwrap());
        let since = |first| decision(record.as_bytes(), Earlier::Since(first));
        assert_eq!([before, told, later].map(since), [Some(decided.clone()), Some(decided), None]);
        for broken in [&record[..record.len() - 1], &record[1..], "", "cancelled", "\u{fffd} {}"] {
            assert_eq!(decision(broken.as_bytes(), Earlier::AnyTime), None);
        }
    }
}
