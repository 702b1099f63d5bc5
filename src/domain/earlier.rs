//! Which earlier tries of a request there may have been: one may have found it a place, or answered it.

use jiff::Timestamp;

/// A request is tried again when the broker delivers it once more, when it has waited in a lane, and when a call for
/// it had no answer. Its producer may also send it again under its id. That is another request, although its waiter
/// has the same id, and what the one before came to is no answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// This try is the first.
    None,
    /// Others came at this time or later.
    Since(Timestamp),
    /// Nobody knows when the first one came, so that the request cannot be told from one before it.
    AnyTime,
}

impl Earlier {
    pub fn is_possible(self) -> bool {
        self != Self::None
    }

    /// Whether a try that came at `received_at` may be one of this request.
    pub fn may_be(self, received_at: Timestamp) -> bool {
        match self {
            Self::None => false,
            Self::Since(first) => first <= received_at,
            Self::AnyTime => true,
        }
    }

    /// The same after a try that came at `received_at`.
    pub fn or_since(self, received_at: Timestamp) -> Self {
        match self {
            Self::None => Self::Since(received_at),
            Self::Since(first) => Self::Since(first.min(received_at)),
            Self::AnyTime => Self::AnyTime,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_try_counts_from_the_first_one_on() {
        let [before, first, later] = [1, 2, 3].map(|second| Timestamp::from_second(second).unwrap());
        let since = Earlier::None.or_since(later).or_since(first);
        assert_eq!(since, Earlier::Since(first));
        assert_eq!([before, first, later].map(|at| since.may_be(at)), [false, true, true]);
        assert_eq!([before, first, later].map(|at| Earlier::None.may_be(at)), [false; 3]);
        assert_eq!(Earlier::AnyTime.or_since(first), Earlier::AnyTime);
        assert!(Earlier::AnyTime.may_be(before) && !Earlier::None.is_possible() && since.is_possible());
    }
}
