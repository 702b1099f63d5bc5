//! Jobs: one lives per key, and is kept until everyone on it was answered; and everything drains.

use super::made::{Made, begun, failing, good, run, work};
use super::{broken, kept};
use crate::support::checker::{Budget, End, Invariant, Struck};

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
}

#[test]
fn a_second_job_is_explained_by_a_redis_that_has_failed_since_the_first_one_ended_and_by_no_other() {
    let second = |made: &mut Made| {
        made.ask("c", run(work("k")));
        made.create("u2", "k", "c");
        made.end("u2", End::Succeeded);
        made.tell("c", "u2", "executed");
        made.release("u2");
    };
    let budget = Budget { extra_jobs: 1, ..Budget::of(0, 0) };
    let mut flushed = good();
    flushed.fail(Struck::Redis);
    second(&mut flushed);
    kept(&flushed, &budget);
    let mut before = begun();
    before.fail(Struck::Redis);
    before.pause(5);
    before.end("u1", End::Succeeded);
    before.tell("a", "u1", "executed");
    before.tell("b", "u1", "coalesced");
    before.release("u1");
    second(&mut before);
    let found = before.history.judge(&budget);
    assert!(found.iter().any(|one| one.what.contains("where 1 are explained by when Redis failed")), "{found:?}");
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
