//! A model of the protocol: the steps of intake, completion and cancellation, each one call to one part, and
//! everything that can go wrong between any two of them. All that can come of a few requests is explored, and
//! in each state the promises are watched: I1 (and that everything drains, I9), I2, I3, I6 and I7.
//!
//! `world` is the state, `steps` what can happen next: `intake`, `place`, `cancel` and `completion` mirror the modules of
//! those names, `cluster` is the API server, and `faults` what goes wrong. `invariants` watches, `explorer`
//! searches, `scopes` says what is explored, and `wrong` makes design errors, of which each must be found.
//! `docs/model.md` says what is covered and what is left out.

mod cancel;
mod cluster;
mod completion;
mod explorer;
mod faults;
mod intake;
mod invariants;
mod place;
mod scopes;
mod steps;
mod world;
mod wrong;

use scopes::Scope;

/// Explores all of a scope, in which every promise has to hold.
fn holds(scope: &Scope) {
    let explored = explorer::explore(scope);
    if let Some(trace) = explored.refuted {
        panic!("{}: {trace}", scope.name);
    }
    assert!(explored.comes_about, "{}: nothing like that comes about", scope.name);
    println!("{:>8} states: {}", explored.states, scope.name);
}

#[test]
fn two_requests_survive_two_crashes() {
    holds(&scopes::CRASHES);
}

#[test]
fn three_requests_of_one_key_share_a_job_through_a_crash() {
    holds(&scopes::THREE);
}

#[test]
fn three_requests_of_two_keys_survive_a_crash() {
    holds(&scopes::TWO_KEYS);
}

#[test]
fn a_request_survives_lost_sessions_and_a_crash() {
    holds(&scopes::SESSIONS);
}

#[test]
fn two_requests_survive_a_lost_session() {
    holds(&scopes::SESSION_OF_TWO);
}

#[test]
fn a_completion_may_be_slower_than_the_ttl() {
    holds(&scopes::SLOW);
}

#[test]
fn a_watch_may_be_stale() {
    holds(&scopes::STALE_WATCH);
}

#[test]
fn two_owners_do_no_harm() {
    holds(&scopes::TWO_OWNERS);
}

#[test]
fn shards_may_move_at_any_time() {
    holds(&scopes::SHARDS_MOVE);
}

#[test]
fn a_refresh_may_meet_a_plain_request() {
    holds(&scopes::REFRESH_TOO);
}

#[test]
fn a_bypass_may_meet_a_plain_request() {
    holds(&scopes::BYPASS_TOO);
}

#[test]
fn a_request_may_want_no_job() {
    holds(&scopes::ONLY_TOO);
}

#[test]
fn a_job_may_be_deleted_by_hand() {
    holds(&scopes::DELETED);
}

#[test]
fn a_create_may_have_no_answer() {
    holds(&scopes::UNANSWERED);
}

#[test]
fn a_create_may_take_effect_later() {
    holds(&scopes::LATE);
}

#[test]
fn a_request_survives_its_lane_and_two_crashes() {
    holds(&scopes::LANE);
}

#[test]
fn two_requests_survive_a_lane_and_a_crash() {
    holds(&scopes::LANE_OF_TWO);
}

#[test]
fn a_request_may_be_cancelled_at_any_time() {
    holds(&scopes::CANCELLED);
}

#[test]
fn one_of_two_may_be_cancelled() {
    holds(&scopes::CANCELLED_OF_TWO);
}

#[test]
fn a_request_may_be_sent_again() {
    holds(&scopes::AGAIN);
}

#[test]
fn a_request_may_be_sent_again_and_wait_in_its_lane() {
    holds(&scopes::AGAIN_IN_ITS_LANE);
}

#[test]
fn redis_may_forget() {
    holds(&scopes::FLUSHED);
}

#[test]
fn redis_may_be_away() {
    holds(&scopes::AWAY);
}

#[test]
fn three_requests_may_meet_a_completion_slower_than_the_ttl() {
    holds(&scopes::SLOW_OF_THREE);
}

#[test]
fn two_keys_survive_a_lost_session_and_a_redis_that_forgets() {
    holds(&scopes::FLUSHED_KEYS);
}

#[test]
fn three_requests_survive_a_stale_watch_and_a_lost_session() {
    holds(&scopes::STALE_SESSION);
}

#[test]
fn lanes_may_be_served_by_two_replicas_through_a_crash() {
    holds(&scopes::LANES);
}

#[test]
fn lanes_may_be_served_by_two_replicas_of_which_one_loses_a_session() {
    holds(&scopes::LANES_AND_SESSION);
}

#[test]
fn one_of_two_may_be_cancelled_at_another_replica() {
    holds(&scopes::CANCELLED_ELSEWHERE);
}

#[test]
#[ignore = "7 million states, 34 s when optimised"]
fn three_requests_of_two_keys_survive_a_lost_session_and_a_redis_that_forgets() {
    holds(&scopes::ALL_FLUSHED_KEYS);
}

#[test]
#[ignore = "6 million states, 27 s when optimised"]
fn three_requests_of_two_keys_survive_a_crash_and_a_redis_that_forgets() {
    holds(&scopes::ALL_FLUSHED_AND_CRASHED);
}

#[test]
#[ignore = "13 million states, 59 s when optimised"]
fn three_requests_survive_a_stale_watch_a_lost_session_and_a_crash() {
    holds(&scopes::ALL_STALE_SESSION);
}

#[test]
#[ignore = "7 million states, 36 s when optimised"]
fn lanes_may_be_served_by_two_replicas_in_any_order() {
    holds(&scopes::ALL_LANES);
}

#[test]
#[ignore = "5 million states, 19 s when optimised"]
fn one_of_two_may_be_cancelled_at_another_replica_through_a_crash() {
    holds(&scopes::ALL_CANCELLED_ELSEWHERE);
}

#[test]
#[ignore = "2 million states, 14 s when optimised"]
fn both_of_two_may_be_cancelled_at_two_replicas() {
    holds(&scopes::ALL_CANCELLED);
}

#[test]
fn each_design_error_is_found_with_its_shortest_trace() {
    for (wrong, scope, invariant, steps) in wrong::REFUTED {
        let explored = explorer::explore(&scope.with(wrong));
        let trace = explored.refuted.unwrap_or_else(|| panic!("{wrong:?} is not found in \"{}\"", scope.name));
        println!("{wrong:?}, in \"{}\": {trace}", scope.name);
        assert_eq!((trace.invariant, trace.steps.len()), (invariant, steps), "{wrong:?}");
    }
}

#[test]
fn what_the_design_stands_on_is_needed() {
    for (assumption, scope) in wrong::STANDS_ON {
        let explored = explorer::explore(&scope);
        let trace = explored.refuted.unwrap_or_else(|| panic!("it is not needed that {assumption}"));
        println!("Without \"{assumption}\": {trace}");
        assert_eq!(trace.invariant, world::Invariant::Agreement, "{assumption}");
        holds(&Scope { answers_agree: false, ..scope });
    }
}
