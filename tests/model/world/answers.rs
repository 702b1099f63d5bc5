//! Requests, and what they are told.

use super::Uid;

/// A set of requests, by their numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Requests(u8);

impl Requests {
    pub(crate) fn of(request: usize) -> Self {
        Self(1 << request)
    }

    pub(crate) fn has(self, request: usize) -> bool {
        self.0 & 1 << request != 0
    }

    pub(crate) fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(crate) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn meets(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    pub(crate) fn first(self) -> Option<usize> {
        (self.0 != 0).then(|| self.0.trailing_zeros() as usize)
    }
}

/// What a terminal event says, as far as two events of one request have to agree on it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Answer {
    /// With the result that this Job made.
    Succeeded(Uid),
    Failed,
    Cancelled,
    /// The answer to a cancellation itself.
    Handled,
    /// There was no result, and none is to be made.
    Missed,
}

/// The different answers that were told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(crate) struct Answers(u16);

impl Answers {
    pub(crate) fn add(&mut self, answer: Answer) {
        self.0 |= 1
            << match answer {
                Answer::Failed => 0,
                Answer::Cancelled => 1,
                Answer::Handled => 2,
                Answer::Succeeded(uid) => 2 + uid,
                Answer::Missed => 15,
            };
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(crate) fn agree(self) -> bool {
        self.0.count_ones() <= 1
    }
}
