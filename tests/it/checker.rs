//! The offline checker finds each kind of broken promise in a history made by hand, and none in one that
//! is merely odd. These need no real parts.

mod made;

use made::{Made, begun, dated, failing, good, moded, run, work};

use crate::support::checker::{Budget, Deadline, End, Fault, Invariant, Mode, Wish};

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

// I2: one live Job per key.

#[test]
fn two_live_jobs_of_one_key_are_found() {
    let mut made = begun();
    made.ask("c", run(work("k")));
    made.create("u2", "k", "c");
    for (uid, requests) in [("u1", &["a", "b"][..]), ("u2", &["c"])] {
        made.end(uid, End::Succeeded);
        requests.iter().for_each(|request| made.tell(request, uid, "executed"));
        made.release(uid);
    }
    broken(&made, Invariant::I2, "two Jobs of the key sha256:k live");
}

#[test]
fn a_second_job_after_the_first_has_succeeded_is_found() {
    let mut made = good();
    made.ask("c", run(work("k")));
    made.create("u2", "k", "c");
    made.end("u2", End::Succeeded);
    made.tell("c", "u2", "executed");
    made.release("u2");
    broken(&made, Invariant::Budget, "2 Jobs of the key sha256:k, where 1 are explained");
    kept(&made, &Budget { extra_jobs: 1, ..Budget::of(0, 0) });
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
    assert_eq!(made.history.duplicates(), 2);
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

// I7: a Job is kept until everyone on it was answered.

#[test]
fn a_job_that_was_let_go_before_its_answer_is_found() {
    let mut made = begun();
    made.end("u1", End::Succeeded);
    made.tell("a", "u1", "executed");
    made.release("u1");
    made.pause(2);
    made.tell("b", "u1", "coalesced");
    broken(&made, Invariant::I7, "was let go before b was told");
}

#[test]
fn a_deleted_job_that_went_before_its_answer_is_found() {
    let mut made = begun();
    made.end("u1", End::Succeeded);
    made.tell("a", "u1", "executed");
    made.gone("u1");
    made.pause(2);
    made.tell("b", "u1", "coalesced");
    broken(&made, Invariant::I7, "was let go before b was told");
}

#[test]
fn a_job_without_the_finalizer_from_its_beginning_is_found() {
    let mut made = good();
    made.history.jobs[0].finalizer = false;
    broken(&made, Invariant::I7, "was created without the finalizer");
}

#[test]
fn a_waiter_that_joined_after_the_job_was_let_go_is_found() {
    let mut made = good();
    made.ask("c", run(work("k")));
    let at = made.history.jobs.len() - 1;
    let gone = made.history.jobs.remove(at);
    made.join("u1", "c");
    made.tell("c", "u1", "coalesced");
    made.history.jobs.push(gone);
    broken(&made, Invariant::I7, "c joined the Job jq-load-k after it was let go");
}

#[test]
fn a_waiter_that_was_taken_off_its_job_is_found() {
    let mut made = begun();
    made.change("u1", |sight| sight.claims.retain(|claim| claim.request == "a"));
    made.end("u1", End::Succeeded);
    made.tell("a", "u1", "executed");
    made.release("u1");
    broken(&made, Invariant::I7, "b was taken off the Job");
}

// I9: everything drains.

#[test]
fn a_finished_job_with_its_finalizer_is_found() {
    let mut made = good();
    made.ask("c", run(failing("x")));
    made.create("u2", "x", "c");
    made.end("u2", End::Failed);
    made.tell("c", "u2", "executed");
    broken(&made, Invariant::I9, "still has the finalizer");
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

// What is merely odd.

#[test]
fn a_hit_after_the_job_is_gone_is_clean() {
    let mut made = good();
    made.ask("c", run(work("k")));
    made.tell("c", "u1", "cache");
    kept(&made, &Budget::of(0, 0));
}

#[test]
fn a_redelivered_request_that_is_answered_again_from_the_cache_is_a_duplicate_and_no_disagreement() {
    let mut made = good();
    made.fault();
    made.tell("b", "u1", "cache");
    kept(&made, &Budget::of(1, 1));
}

#[test]
fn a_request_that_was_sent_twice_may_be_answered_twice_and_fail_once_more() {
    let mut made = Made::default();
    made.ask("a", run(failing("k")));
    made.history.requests[0].sent = 2;
    for uid in ["u1", "u2"] {
        made.create(uid, "k", "a");
        made.end(uid, End::Failed);
        made.tell("a", uid, "executed");
        made.release(uid);
    }
    kept(&made, &Budget::of(0, 0));
}

#[test]
fn a_cancelled_waiter_beside_one_that_waits_on_is_clean() {
    let mut made = begun();
    made.ask("stop", Wish::Cancel("b".into()));
    made.change("u1", |sight| sight.claims[1].cancelled = true);
    made.say("b", "cancelled", "cancelled");
    made.tell_cancellation("stop", "cancelled");
    made.end("u1", End::Succeeded);
    made.tell("a", "u1", "executed");
    made.release("u1");
    made.gone("u1");
    kept(&made, &Budget::of(0, 0));
}

#[test]
fn a_job_that_is_deleted_with_its_last_waiter_is_clean_and_so_is_the_next_of_its_key() {
    let mut made = Made::default();
    made.ask("a", run(work("k")));
    made.create("u1", "k", "a");
    made.ask("stop", Wish::Cancel("a".into()));
    made.change("u1", |sight| sight.claims[0].cancelled = true);
    made.end("u1", End::Deleted);
    made.say("a", "cancelled", "cancelled");
    made.tell_cancellation("stop", "cancelled");
    made.release("u1");
    made.gone("u1");
    made.ask("b", run(work("k")));
    made.create("u2", "k", "b");
    made.end("u2", End::Succeeded);
    made.tell("b", "u2", "executed");
    made.release("u2");
    kept(&made, &Budget::of(0, 0));
}

#[test]
fn a_run_alone_beside_another_of_its_key_and_a_refresh_after_both_are_clean() {
    let mut made = begun();
    made.ask("alone", moded(work("k"), Mode::Bypass));
    made.create("u2", "k", "alone");
    for (uid, requests) in [("u1", &["a", "b"][..]), ("u2", &["alone"])] {
        made.end(uid, End::Succeeded);
        requests.iter().for_each(|request| made.tell(request, uid, "executed"));
        made.release(uid);
    }
    made.ask("new", moded(work("k"), Mode::Refresh));
    made.create("u3", "k", "new");
    made.end("u3", End::Succeeded);
    made.tell("new", "u3", "executed");
    made.release("u3");
    kept(&made, &Budget::of(0, 0));
}

#[test]
fn one_that_expired_and_one_that_just_made_it_are_clean() {
    let mut made = good();
    made.ask("c", dated(work("k"), Deadline::Past));
    made.say("c", "expired", "expired");
    made.ask("d", dated(work("k"), Deadline::Near));
    made.tell("d", "u1", "cache");
    made.ask("e", moded(work("x"), Mode::Only));
    made.say("e", "rejected", "cache.miss");
    kept(&made, &Budget::of(0, 0));
}

#[test]
fn a_job_that_succeeds_while_it_is_deleted_has_succeeded() {
    let mut made = begun();
    made.end("u1", End::Deleted);
    made.end("u1", End::Succeeded);
    made.tell("a", "u1", "executed");
    made.tell("b", "u1", "coalesced");
    made.release("u1");
    kept(&made, &Budget::of(0, 0));
}

#[test]
fn a_release_that_is_seen_a_moment_before_the_answer_is_clean() {
    let mut made = begun();
    made.end("u1", End::Succeeded);
    made.tell("a", "u1", "executed");
    made.release("u1");
    made.tell("b", "u1", "coalesced");
    kept(&made, &Budget::of(0, 0));
}

#[test]
fn a_request_that_its_cancellation_meets_is_told_by_one_of_them() {
    let mut made = Made::default();
    made.ask("a", run(work("k")));
    made.ask("stop", Wish::Cancel("a".into()));
    made.tell_cancellation("stop", "awaited");
    made.say("a", "cancelled", "cancelled");
    kept(&made, &Budget::of(0, 0));
    made.tell_again("a");
    broken(&made, Invariant::Budget, "1 duplicate answers");
}

#[test]
fn a_request_that_the_broker_gave_up_is_rejected_after_five_deaths_and_not_before() {
    let mut made = good();
    made.ask("p", run(work("k")));
    for _ in 0..4 {
        made.fault();
    }
    made.say("p", "rejected", "request.poison");
    broken(&made, Invariant::I4, "that is nothing it can come to");

    let mut made = good();
    made.ask("p", run(work("k")));
    for _ in 0..5 {
        made.fault();
    }
    made.say("p", "rejected", "request.poison");
    kept(&made, &Budget::of(5, 0));
}

#[test]
fn a_cancellation_that_found_nothing_is_true_only_where_redis_failed() {
    let mut made = good();
    made.ask("c", Wish::Cancel("a".into()));
    made.tell_cancellation("c", "not_found");
    broken(&made, Invariant::I4, "it says \"not_found\"");
    let at = made.tick();
    made.history.faults.push(Fault { at, what: "RedisPaused".into() });
    kept(&made, &Budget::of(1, 0));
}
