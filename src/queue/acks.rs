//! What became of the deliveries of one channel, told to the broker: acknowledgements as many at a time as can be.
//!
//! Each costs the broker and the client about as much as a small message, and one can speak for all deliveries before it. So
//! what is done is acknowledged up to the first that is not, at once; what lies beyond that one is given a moment in which
//! the others may be done too.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::try_join_all;
use lapin::Acker;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{CALL_TIMEOUT, Error, call};
use crate::crash;

/// What is done waits so long for what was delivered before it. Shorter than a round trip of most of what is waited for,
/// longer than answers that are confirmed together lie apart.
const HOLD: Duration = Duration::from_millis(5);

/// News of a delivery, by its tag.
#[derive(Debug)]
enum News {
    /// It is in somebody's hands.
    Taken(u64),
    Done(u64, Acker),
    /// Nothing came of it.
    HandBack(u64, Acker),
}

/// Where deliveries of a channel say what became of them.
#[derive(Debug, Clone)]
pub(super) struct Ledger(mpsc::UnboundedSender<News>);

impl Ledger {
    /// Said in the order in which the deliveries came, before anything else is said of them.
    pub(super) fn taken(&self, tag: u64) {
        self.say(News::Taken(tag));
    }

    pub(super) fn done(&self, tag: u64, acker: Acker) {
        self.say(News::Done(tag, acker));
    }

    pub(super) fn hand_back(&self, tag: u64, acker: Acker) {
        self.say(News::HandBack(tag, acker));
    }

    fn say(&self, news: News) {
        // When nobody listens the session is over, and the broker has all of its deliveries again.
        let _ = self.0.send(news);
    }
}

/// The end that acknowledges.
pub(super) struct Acknowledger {
    news: mpsc::UnboundedReceiver<News>,
    deliveries: Deliveries<Acker>,
}

pub(super) fn ledger() -> (Ledger, Acknowledger) {
    let (sender, news) = mpsc::unbounded_channel();
    (Ledger(sender), Acknowledger { news, deliveries: Deliveries::default() })
}

impl Acknowledger {
    /// Until the ledger and all who hold it are gone, and everything that was done is acknowledged.
    pub(super) async fn run(mut self) -> Result<(), Error> {
        let mut held: Option<Instant> = None;
        let mut news = Vec::new();
        loop {
            let until = held.unwrap_or_else(Instant::now);
            tokio::select! {
                count = self.news.recv_many(&mut news, usize::MAX) => if count == 0 { break },
                () = tokio::time::sleep_until(until), if held.is_some() => {
                    held = None;
                    self.acknowledge_rest().await?;
                }
            }
            for news in news.drain(..) {
                match news {
                    News::Taken(tag) => self.deliveries.take(tag),
                    News::Done(tag, acker) => self.deliveries.finish(tag, acker),
                    News::HandBack(tag, acker) => {
                        self.deliveries.hand_back(tag);
                        hand_back(acker).await?;
                    }
                }
            }
            if let Some(acker) = self.deliveries.take_foremost() {
                acknowledge(acker, true).await?;
            }
            held = self.deliveries.has_rest().then(|| held.unwrap_or_else(|| Instant::now() + HOLD));
        }
        self.acknowledge_rest().await
    }

    /// Each by itself, and all at once: a round trip within the client for each of them would be what bounds the throughput
    /// while one request takes long. All are written before an acknowledgement that would speak for them too.
    async fn acknowledge_rest(&mut self) -> Result<(), Error> {
        let rest = self.deliveries.take_rest().into_iter().map(|acker| acknowledge(acker, false));
        try_join_all(rest).await.map(drop)
    }
}

async fn acknowledge(acker: Acker, multiple: bool) -> Result<(), Error> {
    settled(call("acknowledge", CALL_TIMEOUT, acker.ack(BasicAckOptions { multiple })).await)?;
    crash::point("acked");
    Ok(())
}

/// With nack, not reject: newer brokers count only a reject as a failure.
async fn hand_back(acker: Acker) -> Result<(), Error> {
    let options = BasicNackOptions { requeue: true, multiple: false };
    settled(call("hand back", CALL_TIMEOUT, acker.nack(options)).await)
}

/// A failure is no loss: the broker delivers the request again, and whatever was done for it is found. It is the end of the
/// session, whether or not the session has noticed.
fn settled(settled: Result<bool, Error>) -> Result<(), Error> {
    match settled {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(Error::Ack),
    }
}

/// Which deliveries are in hand, and which wait for their acknowledgement.
#[derive(Debug)]
struct Deliveries<A> {
    in_hand: BTreeSet<u64>,
    done: BTreeMap<u64, A>,
}

impl<A> Default for Deliveries<A> {
    fn default() -> Self {
        Self { in_hand: BTreeSet::new(), done: BTreeMap::new() }
    }
}

impl<A> Deliveries<A> {
    fn take(&mut self, tag: u64) {
        self.in_hand.insert(tag);
    }

    fn finish(&mut self, tag: u64, acker: A) {
        self.in_hand.remove(&tag);
        self.done.insert(tag, acker);
    }

    fn hand_back(&mut self, tag: u64) {
        self.in_hand.remove(&tag);
    }

    /// The last of those that are done and have nothing before them that is not: it speaks for them all.
    fn take_foremost(&mut self) -> Option<A> {
        let rest = match self.in_hand.first() {
            Some(first) => self.done.split_off(first),
            None => BTreeMap::new(),
        };
        std::mem::replace(&mut self.done, rest).pop_last().map(|(_, acker)| acker)
    }

    fn has_rest(&self) -> bool {
        !self.done.is_empty()
    }

    fn take_rest(&mut self) -> Vec<A> {
        std::mem::take(&mut self.done).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliveries(taken: std::ops::RangeInclusive<u64>) -> Deliveries<u64> {
        let mut deliveries = Deliveries::default();
        taken.for_each(|tag| deliveries.take(tag));
        deliveries
    }

    #[test]
    fn one_acknowledgement_speaks_for_all_before_it_and_for_none_that_is_in_hand() {
        let mut deliveries = deliveries(1..=6);
        deliveries.finish(2, 2);
        assert_eq!(deliveries.take_foremost(), None, "1 is in hand");
        deliveries.finish(1, 1);
        deliveries.finish(3, 3);
        deliveries.finish(5, 5);
        assert_eq!(deliveries.take_foremost(), Some(3));
        assert!(deliveries.has_rest());
        assert_eq!(deliveries.take_rest(), [5], "4 has kept it waiting");
        deliveries.finish(4, 4);
        assert_eq!(deliveries.take_foremost(), Some(4), "5 is acknowledged already, and must not be again");
        deliveries.finish(6, 6);
        assert_eq!((deliveries.take_foremost(), deliveries.has_rest()), (Some(6), false));
    }

    #[test]
    fn what_is_handed_back_keeps_nobody_waiting_and_is_never_acknowledged_by_its_tag() {
        let mut deliveries = deliveries(1..=3);
        deliveries.finish(2, 2);
        deliveries.hand_back(1);
        deliveries.hand_back(3);
        assert_eq!(deliveries.take_foremost(), Some(2));
        assert_eq!(deliveries.take_foremost(), None);
    }

    #[test]
    fn whatever_the_order_each_is_acknowledged_once_and_none_too_early() {
        for seed in 0..200 {
            let mut chance = fastrand::Rng::with_seed(seed);
            let mut deliveries = deliveries(1..=40);
            let mut order: Vec<u64> = (1..=40).collect();
            chance.shuffle(&mut order);
            let (mut finished, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
            for tag in order {
                finished.insert(tag);
                deliveries.finish(tag, tag);
                if let Some(upto) = deliveries.take_foremost() {
                    let new: Vec<_> = (1..=upto).filter(|tag| acknowledged.insert(*tag)).collect();
                    assert!(new.contains(&upto), "{seed}: the broker knows no such delivery any more");
                }
                if chance.u8(..8) == 0 {
                    deliveries.take_rest().into_iter().for_each(|tag| assert!(acknowledged.insert(tag), "{seed}"));
                }
                assert!(acknowledged.is_subset(&finished), "{seed}");
            }
            acknowledged.extend(deliveries.take_rest());
            assert_eq!(acknowledged.len(), 40, "{seed}");
        }
    }
}
