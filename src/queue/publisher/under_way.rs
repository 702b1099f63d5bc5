//! What was handed over and has no receipt yet, whoever publishes it. It is all here, so that nothing is lost with the
//! future of a session that ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Pending, Receipt};
use crate::queue::Message;
use crate::telemetry::metrics::Metrics;

#[derive(Default)]
pub(super) struct UnderWay(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    last: u64,
    pending: BTreeMap<u64, Pending>,
}

/// One of them on its way.
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) message: Arc<Message>,
}

impl UnderWay {
    /// Takes those in whose receipt somebody waits for.
    pub(super) fn take_in(&self, all: impl IntoIterator<Item = Pending>) -> Vec<Numbered> {
        let mut entries = self.lock();
        let wanted = all.into_iter().filter(Pending::is_wanted);
        wanted
            .map(|pending| {
                entries.last += 1;
                let numbered = Numbered { number: entries.last, message: Arc::clone(&pending.message) };
                entries.pending.insert(numbered.number, pending);
                numbered
            })
            .collect()
    }

    pub(super) fn settle(&self, receipts: impl IntoIterator<Item = (u64, Receipt)>, metrics: &Metrics) {
        let mut entries = self.lock();
        for (number, receipt) in receipts {
            if let Some(pending) = entries.pending.remove(&number) {
                pending.settle(receipt, metrics);
            }
        }
    }

    /// In the order in which they were taken in.
    pub(super) fn into_left(self) -> impl Iterator<Item = Pending> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).pending.into_values()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // Each change is one insertion or removal, so a panic leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn what_has_no_receipt_is_left_in_its_order_and_what_nobody_waits_for_is_not_taken_in() {
        let (receipts, mut received) = mpsc::unbounded_channel();
        let message = || {
            let text = String::new;
            Arc::new(Message {
                id: text(),
                exchange: text(),
                routing_key: text(),
                body: Arc::default(),
                content_type: "".into(),
                correlation_id: None,
                reply_to: None,
                kind: None,
                user_id: None,
                headers: Vec::new(),
                mandatory: true,
            })
        };
        let pending = |place| Pending { message: message(), place, receipts: receipts.clone(), killed: 0 };
        let unwanted = Pending { receipts: mpsc::unbounded_channel().0, ..pending(9) };
        let under_way = UnderWay::default();
        let numbered = under_way.take_in([pending(0), unwanted, pending(1), pending(2)]);
        assert_eq!(numbered.len(), 3);
        let twice = [(numbered[1].number, Receipt::Delivered), (numbered[1].number, Receipt::Refused)];
        under_way.settle(twice, &Metrics::default());
        assert_eq!(received.try_recv(), Ok((1, Receipt::Delivered)));
        assert!(received.try_recv().is_err(), "the first word counts");
        assert_eq!(under_way.into_left().map(|pending| pending.place).collect::<Vec<_>>(), [0, 2]);
    }
}
