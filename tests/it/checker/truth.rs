//! What is told is what happened, of a run as of a hit.

use std::time::Duration;

use super::made::{Made, begun, dated, failing, good, moded, run, work};
use super::{broken, kept};
use crate::support::checker::{Budget, Deadline, End, Invariant, Mode, Struck, Wish};

// I4: an answer tells the truth.

#[test]
fn a_success_of_a_job_that_failed_is_found() {
    let mut made = begun();
    made.end("u1", End::Succeeded);
    made.tell("a", "u1", "executed");
    made.tell("b", "u1", "coalesced");
    made.release("u1");
    for sight in made.history.jobs.iter_mut().filter(|sight| sight.end.is_some()) {
        sight.end = Some(End::Failed);
    }
    broken(&made, Invariant::I4, "came to Some(Failed)");
}

#[test]
fn a_failure_of_a_request_that_cannot_fail_is_found() {
    let mut made = begun();
    made.end("u1", End::Failed);
    made.tell("a", "u1", "executed");
    made.tell("b", "u1", "coalesced");
    made.release("u1");
    broken(&made, Invariant::I4, "a was told failed: that is nothing it can come to");
}

#[test]
fn the_result_of_other_parameters_is_found() {
    let mut made = good();
    let other = "value of x jq-load-k-u1\n";
    made.told().text = Some(other.into());
    made.told().sha256 = Some(jobquay::domain::outcome::digest(other.as_bytes()));
    broken(&made, Invariant::I4, "is not that of its parameters");
}

#[test]
fn a_result_that_another_jobs_pod_wrote_is_found() {
    let mut made = good();
    let other = "value of k jq-load-x-u1\n";
    made.told().text = Some(other.into());
    made.told().sha256 = Some(jobquay::domain::outcome::digest(other.as_bytes()));
    broken(&made, Invariant::I4, "is none of the Job jq-load-k that is named");
}

#[test]
fn a_job_that_was_never_there_is_found() {
    let mut made = good();
    made.told().job_uid = "u9".into();
    broken(&made, Invariant::I4, "was never there");
}

#[test]
fn another_result_than_the_job_recorded_is_found() {
    let mut made = good();
    made.history.jobs.iter_mut().for_each(|sight| sight.recorded = Some("0".repeat(64)));
    broken(&made, Invariant::I4, "another result than its Job recorded");
}

#[test]
fn a_cancellation_that_nobody_asked_for_is_found() {
    let mut made = Made::default();
    made.ask("a", run(work("k")));
    made.say("a", "cancelled", "cancelled");
    broken(&made, Invariant::I4, "a was told cancelled");
}

#[test]
fn a_cancellation_that_says_what_did_not_happen_is_found() {
    let mut made = good();
    made.ask("stop", Wish::Cancel("a".into()));
    made.tell_cancellation("stop", "cancelled");
    broken(&made, Invariant::I4, "it says \"cancelled\", and a was told [\"succeeded\"]");

    // One that was sent twice may have come to both, and one that was sent once not.
    let mut made = begun();
    made.ask("stop", Wish::Cancel("b".into()));
    made.change("u1", |sight| sight.claims[1].cancelled = true);
    made.say("b", "cancelled", "cancelled");
    made.tell_cancellation("stop", "finished");
    made.end("u1", End::Succeeded);
    made.tell("a", "u1", "executed");
    made.release("u1");
    broken(&made, Invariant::I4, "it says \"finished\", and b was told [\"cancelled\"]");
    made.tell("b", "u1", "cache");
    made.history.requests[1].sent = 2;
    kept(&made, &Budget::of(0, 0));
}

#[test]
fn a_request_that_expired_without_a_deadline_is_found() {
    let mut made = Made::default();
    made.ask("a", run(work("k")));
    made.say("a", "expired", "expired");
    broken(&made, Invariant::I4, "a was told expired");
}

#[test]
fn a_job_for_a_request_that_was_too_late_is_found() {
    let mut made = Made::default();
    made.ask("a", dated(work("k"), Deadline::Past));
    made.create("u1", "k", "a");
    made.say("a", "expired", "expired");
    made.end("u1", End::Succeeded);
    made.release("u1");
    broken(&made, Invariant::I4, "although its deadline had passed");
}

// I5: a hit is what a successful Job of the key made.

#[test]
fn a_failure_from_the_cache_is_found() {
    let mut made = Made::default();
    made.ask("a", run(failing("k")));
    made.create("u1", "k", "a");
    made.end("u1", End::Failed);
    made.tell("a", "u1", "executed");
    made.release("u1");
    made.ask("b", run(failing("k")));
    made.tell("b", "u1", "cache");
    broken(&made, Invariant::I5, "a failure came from the cache");
}

#[test]
fn a_hit_of_another_key_is_found() {
    let mut made = good();
    made.ask("c", run(work("other")));
    made.tell("c", "u1", "cache");
    broken(&made, Invariant::I4, "is not that of its parameters");
    broken(&made, Invariant::I5, "sha256:k goes with [\"k\", \"other\"]");
}

#[test]
fn a_hit_on_a_job_that_runs_still_is_found() {
    let mut made = begun();
    made.ask("c", run(work("k")));
    made.history.jobs.last_mut().expect("a sight").end = Some(End::Succeeded);
    made.tell("c", "u1", "cache");
    made.history.jobs.last_mut().expect("a sight").end = None;
    made.pause(3);
    made.end("u1", End::Succeeded);
    broken(&made, Invariant::I5, "which had not ended");
}

#[test]
fn a_cached_answer_to_a_refresh_is_found() {
    let mut made = good();
    made.ask("c", moded(work("k"), Mode::Refresh));
    made.tell("c", "u1", "cache");
    broken(&made, Invariant::I5, "Refresh takes nothing from the cache");
}

// What only faults explain.

#[test]
fn a_request_that_the_broker_gave_up_is_rejected_after_more_than_twenty_deaths_and_not_before() {
    let mut made = good();
    made.ask("p", run(work("k")));
    for _ in 0..20 {
        made.fault();
    }
    for _ in 0..20 {
        made.fail(Struck::Cluster);
    }
    made.say("p", "rejected", "request.poison");
    broken(&made, Invariant::I4, "that is nothing it can come to");

    let mut made = good();
    made.ask("p", run(work("k")));
    for _ in 0..21 {
        made.fault();
    }
    made.say("p", "rejected", "request.poison");
    kept(&made, &Budget::of(21, 0));
}

#[test]
fn a_cancellation_that_found_nothing_is_true_only_where_redis_failed() {
    let mut made = good();
    made.ask("c", Wish::Cancel("a".into()));
    made.tell_cancellation("c", "not_found");
    broken(&made, Invariant::I4, "it says \"not_found\"");
    made.fail(Struck::Redis);
    kept(&made, &Budget::of(1, 0));
}

#[test]
fn a_hit_after_its_deadline_is_true_only_for_one_that_may_have_been_delivered_before() {
    let mut made = good();
    made.ask("d", dated(work("k"), Deadline::Past));
    made.tell("d", "u1", "cache");
    broken(&made, Invariant::I4, "that is nothing it can come to");

    let mut made = good();
    made.ask("d", dated(work("k"), Deadline::Past));
    made.fault();
    made.tell("d", "u1", "cache");
    kept(&made, &Budget::of(1, 0));

    // One that lasts may have begun before the request was sent.
    let mut made = good();
    made.fault();
    made.ask("d", dated(work("k"), Deadline::Past));
    made.tell("d", "u1", "cache");
    broken(&made, Invariant::I4, "that is nothing it can come to");
    kept(&made, &Budget { settling: Duration::from_secs(10), ..Budget::of(1, 0) });
}
