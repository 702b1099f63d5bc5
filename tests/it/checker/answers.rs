//! Answers: every confirmed request has one, where it asked for it, and always the same.

use std::time::Duration;

use super::made::{Made, begun, good, moded, run, work};
use super::{broken, kept};
use crate::support::checker::{Budget, End, Invariant, Mode, Struck, Wish};

// I1 and I6: every confirmed request is answered.

#[test]
fn a_confirmed_request_without_a_job_or_an_answer_was_acknowledged_too_early() {
    let mut made = good();
    made.ask("c", run(work("other")));
    broken(&made, Invariant::I6, "no Job ever had its waiter");
}

#[test]
fn a_request_that_still_lies_in_a_queue_is_lost_but_was_not_acknowledged() {
    let mut made = good();
    made.ask("c", run(work("other")));
    made.history.left.push("1 message in jobquay.requests".into());
    broken(&made, Invariant::I1, "c was confirmed and never answered");
    broken(&made, Invariant::I9, "jobquay.requests");
}

#[test]
fn a_request_that_was_never_confirmed_is_owed_nothing() {
    let mut made = good();
    made.ask("c", run(work("other")));
    made.history.requests[2].confirmed = None;
    kept(&made, &Budget::of(0, 0));
}

#[test]
fn one_waiter_of_two_that_was_skipped_is_found() {
    let mut made = begun();
    made.end("u1", End::Succeeded);
    made.tell("a", "u1", "executed");
    made.release("u1");
    broken(&made, Invariant::I7, "b was confirmed and never answered; its Job was let go without it");
}

#[test]
fn a_job_that_nobody_completes_is_found() {
    let mut made = begun();
    made.end("u1", End::Succeeded);
    broken(&made, Invariant::I1, "its Job still owes the answer");
    broken(&made, Invariant::I9, "still has the finalizer");
}

#[test]
fn an_answer_with_another_correlation_id_is_found() {
    let mut made = good();
    made.told().correlation_id = "c-a".into();
    broken(&made, Invariant::I1, "correlation id \"c-a\" instead of \"c-b\"");
}

#[test]
fn an_answer_to_nobody_is_found() {
    let mut made = good();
    made.say("nobody", "expired", "expired");
    broken(&made, Invariant::I1, "which nobody sent");
}

// I3: all answers of one request agree.

#[test]
fn answers_of_two_states_are_found() {
    let mut made = good();
    made.say("b", "failed", "job.failed");
    broken(&made, Invariant::I3, "b was answered in 2 ways");
}

#[test]
fn answers_with_two_results_are_found() {
    let mut made = good();
    made.tell_again("b");
    made.told().sha256 = Some("0".repeat(64));
    broken(&made, Invariant::I3, "b was answered in 2 ways");
    broken(&made, Invariant::I4, "the digest is not that of the bytes");
    broken(&made, Invariant::I4, "was told with 2 results");
}

/// The record of an answer that no Job stands behind is in Redis alone.
#[test]
fn two_answers_without_a_job_are_found_unless_redis_had_failed_between_them() {
    let refused = || {
        let mut made = good();
        made.ask("c", run(work("other")));
        made.say("c", "rejected", "cache.miss");
        made
    };
    let told_otherwise = |mut made: Made| {
        made.say("c", "rejected", "policy.denied");
        made.told().state = "expired".into();
        made.told().id = "c/01234567/expired".into();
        made.history.judge(&Budget::of(9, 9)).into_iter().any(|violation| violation.invariant == Invariant::I3)
    };
    assert!(told_otherwise(refused()));
    let mut flushed = refused();
    flushed.fail(Struck::Redis);
    assert!(!told_otherwise(flushed));
    let mut over = good();
    over.fail(Struck::Redis);
    over.ask("c", run(work("other")));
    over.say("c", "rejected", "cache.miss");
    assert!(told_otherwise(over));
    let mut with_a_job = good();
    with_a_job.fail(Struck::Redis);
    with_a_job.say("b", "failed", "job.failed");
    broken(&with_a_job, Invariant::I3, "b was answered in 2 ways");
}

/// Its Job has made room for another run, and the record of the answer was in Redis.
#[test]
fn answers_of_two_runs_are_found_unless_redis_had_failed_and_the_first_job_is_gone() {
    let told_otherwise = |redis_failed: bool, first_is_gone: bool| {
        let mut made = begun();
        made.end("u1", End::Succeeded);
        made.tell("a", "u1", "executed");
        made.tell("b", "u1", "coalesced");
        made.release("u1");
        if first_is_gone {
            made.gone("u1");
        }
        if redis_failed {
            made.fail(Struck::Redis);
        }
        made.ask("n", run(work("k")));
        made.create("u2", "k", "n");
        made.join("u2", "b");
        made.end("u2", End::Succeeded);
        made.tell("b", "u2", "coalesced");
        made.told().sha256 = Some("1".repeat(64));
        made.history
            .judge(&Budget::of(9, 9))
            .into_iter()
            .any(|violation| violation.what.contains("b was answered in 2"))
    };
    assert!(!told_otherwise(true, true));
    assert!(told_otherwise(true, false) && told_otherwise(false, true));
}

#[test]
fn two_hits_with_different_values_are_found_unless_somebody_has_replaced_the_value() {
    let two_hits = |mode: Mode| {
        let mut made = good();
        made.ask("n", moded(work("k"), mode));
        made.create("u2", "k", "n");
        made.end("u2", End::Succeeded);
        made.tell("n", "u2", "executed");
        made.release("u2");
        made.ask("h", run(work("k")));
        made.tell("h", "u1", "cache");
        made.tell("h", "u2", "cache");
        let digest = Some("1".repeat(64));
        made.told().sha256 = digest;
        made.history
            .judge(&Budget::of(9, 9))
            .into_iter()
            .any(|violation| violation.what.contains("h was answered in 2"))
    };
    assert!(two_hits(Mode::Use));
    assert!(!two_hits(Mode::Refresh) && !two_hits(Mode::Bypass));
}

#[test]
fn equal_answers_with_two_event_ids_are_found() {
    let mut made = good();
    made.tell_again("b");
    made.told().id = "b/76543210/succeeded".into();
    broken(&made, Invariant::I3, "different event ids");
}

#[test]
fn an_event_id_of_another_request_is_found() {
    let mut made = good();
    made.told().id = "a/01234567/succeeded".into();
    broken(&made, Invariant::I3, "is not made of its request and state");
}

#[test]
fn more_duplicates_than_the_faults_explain_are_found_and_no_fewer() {
    let mut made = good();
    made.fault();
    made.tell_again("a");
    made.tell_again("b");
    broken(&made, Invariant::Budget, "2 duplicate answers, where the faults explain 0");
    kept(&made, &Budget::of(1, 2));
    assert_eq!(made.history.duplicates(false), 2);
}

#[test]
fn a_duplicate_that_no_fault_lies_before_is_found_whatever_the_budget() {
    let mut made = good();
    made.pause(3);
    made.tell_again("b");
    made.pause(3);
    made.fault();
    let violations = made.history.judge(&Budget::of(1, 9));
    assert!(violations.iter().any(|violation| violation.what.contains("without a fault")), "{violations:#?}");
}

#[test]
fn a_duplicate_is_not_explained_by_a_fault_of_redis_alone() {
    let mut made = good();
    made.fail(Struck::Redis);
    made.tell_again("b");
    let violations = made.history.judge(&Budget::of(1, 9));
    assert!(violations.iter().any(|violation| violation.what.contains("without a fault")), "{violations:#?}");
}

#[test]
fn a_run_full_of_faults_in_which_every_answer_comes_twice_is_found() {
    let mut made = good();
    for number in 0..300 {
        if number % 6 == 0 {
            made.fail_on(Struck::Broker);
        }
        let id = format!("r{number}");
        made.ask(&id, run(work("k")));
        made.tell(&id, "u1", "cache");
        made.tell_again(&id);
        if number % 6 == 5 {
            made.heal();
        }
    }
    let budget = Budget { settling: Duration::from_secs(10), ..Budget::of(50, 5) };
    let violations = made.history.judge(&budget);
    assert!(
        violations.iter().any(|violation| violation.what.contains("300 duplicate answers")),
        "each has a fault nearby, and together they are too many: {violations:#?}"
    );
}

// I10: a Job is its template, and an answer goes where it was asked for.

#[test]
fn an_answer_in_another_queue_is_found() {
    let mut made = good();
    made.told().queue = "replies.two".into();
    broken(&made, Invariant::I10, "came to replies.two instead of replies.one");
}

#[test]
fn a_job_that_differs_from_its_template_is_found() {
    let mut made = good();
    made.history.jobs.iter_mut().for_each(|sight| sight.container = serde_json::json!({"args": ["k", "more"]}));
    broken(&made, Invariant::I10, "runs {\"args\":[\"k\",\"more\"]}");
}

#[test]
fn a_job_for_a_cancellation_is_found() {
    let mut made = good();
    made.ask("stop", Wish::Cancel("a".into()));
    made.tell_cancellation("stop", "finished");
    made.create("u2", "x", "stop");
    broken(&made, Invariant::I10, "which asked for none");
}
