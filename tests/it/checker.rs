//! The offline checker finds each kind of broken promise in a history made by hand, and none in one that
//! is merely odd. These need no real parts.

mod answers;
mod jobs;
mod made;
mod odd;
mod truth;

use made::{Made, good};

use crate::support::checker::{Budget, Invariant};

#[track_caller]
fn broken(made: &Made, invariant: Invariant, says: &str) {
    let violations = made.history.judge(&Budget::of(0, 0));
    let found = violations.iter().find(|violation| violation.invariant == invariant && violation.what.contains(says));
    let found = found.unwrap_or_else(|| panic!("nothing says {invariant:?} {says:?}: {violations:#?}"));
    let report = made.history.report(&violations);
    for request in found.requests.iter().take(2) {
        assert!(report.contains(&format!("history of {request}\n")), "{report}");
    }
}

#[track_caller]
fn kept(made: &Made, budget: &Budget) {
    made.history.assert_clean(budget);
}

#[test]
fn a_request_that_runs_and_one_that_joins_it_are_clean() {
    kept(&good(), &Budget::of(0, 0));
}
