//! What is merely odd breaks no promise.

use super::made::{Made, begun, dated, failing, good, moded, run, work};
use super::{broken, kept};
use crate::support::checker::{Budget, Deadline, End, Invariant, Mode, Struck, Wish};

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
fn an_answer_that_waited_in_its_queue_while_the_broker_was_away_is_clean() {
    let mut made = begun();
    made.end("u1", End::Succeeded);
    made.tell("a", "u1", "executed");
    made.release("u1");
    made.fail_on(Struck::Broker);
    made.pause(20);
    made.heal();
    made.tell("b", "u1", "coalesced");
    kept(&made, &Budget::of(1, 0));
    // No other fault keeps a confirmed answer.
    made.history.faults[0].struck = Struck::Cluster;
    broken(&made, Invariant::I7, "was let go before b was told");
}

#[test]
fn a_copy_in_the_queue_of_a_job_that_was_let_go_is_nothing_that_was_left_where_somebody_died() {
    let mut made = good();
    let uid = made.history.jobs[0].uid.clone();
    made.history.left.push(format!("1 messages in jobquay.waiters.jq-load-k.{uid}"));
    broken(&made, Invariant::I9, "left over");
    made.fault();
    kept(&made, &Budget::of(0, 0));
    made.history.left = vec!["1 messages in jobquay.waiters.jq-load-k.another".into()];
    broken(&made, Invariant::I9, "left over");
}

#[test]
fn what_is_in_the_queue_of_a_job_that_owes_answers_is_left_over() {
    let mut made = Made::default();
    made.ask("r", run(work("k")));
    made.create("u", "k", "r");
    made.fault();
    made.history.left.push("1 messages in jobquay.waiters.jq-load-k.u".into());
    broken(&made, Invariant::I9, "left over");
}
