use serde_json::{Value, json};

use super::*;
use crate::domain::key::KeyParts;

fn job(value: Value) -> Job {
    serde_json::from_value(value).unwrap()
}

fn ended_by(conditions: &[(&str, &str)], deleting: bool) -> Option<Ending> {
    let conditions: Vec<_> = conditions
        .iter()
        .map(|(kind, status)| json!({"type": kind, "status": status, "reason": "R", "message": "M"}))
        .collect();
    let mut value = json!({"metadata": {}, "status": {"conditions": conditions}});
    if deleting {
        value["metadata"]["deletionTimestamp"] = json!("2026-11-24T12:00:00Z");
    }
    ending(&job(value))
}

#[test]
fn a_verdict_is_read_early_and_only_when_true() {
    let failed = Some(Ending::Failed { reason: "R".into(), message: "M".into() });
    for (conditions, deleting, expected) in [
        (vec![], false, None),
        (vec![("Suspended", "True")], false, None),
        (vec![("Complete", "False"), ("Failed", "Unknown")], false, None),
        (vec![("SuccessCriteriaMet", "True")], false, Some(Ending::Succeeded)),
        (vec![("Complete", "True")], true, Some(Ending::Succeeded)),
        (vec![("FailureTarget", "True")], false, failed.clone()),
        (vec![("Failed", "True")], true, failed),
        (vec![], true, Some(Ending::Deleted)),
    ] {
        assert_eq!(ended_by(&conditions, deleting), expected, "{conditions:?} {deleting}");
    }
}

#[test]
fn forged_counts_of_overflowed_waiters_stay_a_count() {
    let most = u64::MAX.to_string();
    let annotations =
        json!({"jobquay.dev/overflow.0": most, "jobquay.dev/overflow.1": most, "jobquay.dev/overflow.2": "-1"});
    assert_eq!(overflowed(&job(json!({"metadata": {"annotations": annotations}}))), u64::MAX);
}

#[test]
fn one_pod_is_all_a_job_had_where_nothing_else_failed_or_lives() {
    let had = |status: Value| had_one_pod(&job(json!({"metadata": {}, "status": status})));
    assert!(had(json!({"succeeded": 1, "active": 0, "terminating": 0})));
    assert!(had(json!({"uncountedTerminatedPods": {"succeeded": ["a"]}})));
    for more in ["failed", "active", "terminating"] {
        assert!(!had(json!({"succeeded": 1, more: 1})), "{more}");
    }
    assert!(!had(json!({"succeeded": 1, "uncountedTerminatedPods": {"failed": ["a"]}})));
    assert!(!had(json!({"succeeded": 1, "uncountedTerminatedPods": {"succeeded": ["a"]}})));
    assert!(!had(json!({})) && !had_one_pod(&job(json!({"metadata": {}}))));
}

#[test]
fn attempts_count_the_pods_that_are_not_booked_yet() {
    let status = json!({"failed": 1, "uncountedTerminatedPods": {"succeeded": ["u-1"]}});
    assert_eq!(attempts(&job(json!({"metadata": {}, "status": status}))), 2);
    assert_eq!(attempts(&job(json!({"metadata": {}}))), 0);
    let forged = json!({"succeeded": i32::MAX, "failed": 1});
    assert_eq!(attempts(&job(json!({"metadata": {}, "status": forged}))), i32::MAX);
}

fn waiter(request_id: &str) -> Waiter {
    serde_json::from_value(json!({"r": request_id, "q": "replies", "t": "1970-01-01T00:00:00Z"})).unwrap()
}

fn a_key() -> RequestKey {
    RequestKey::of(&KeyParts {
        tenant: "",
        template: "",
        digest: "",
        input: &json!(null),
        salt: None,
        request_id: None,
    })
}

/// A Job of ours that one waiter, `r-1`, is on.
fn ours() -> Value {
    let waiter = waiter("r-1");
    json!({"metadata": {
        "name": "jq-t-x", "uid": "u-1", "finalizers": ["other/finalizer", manifest::JOB_FINALIZER],
        "labels": {manifest::MANAGED_BY.0: manifest::MANAGED_BY.1},
        "annotations": {manifest::KEY: a_key().to_string(), manifest::waiter_annotation(&waiter): manifest::encode_waiter(&waiter)},
    }})
}

fn stands(value: Value, request_id: &str, redelivered: bool) -> Standing {
    let earlier = if redelivered { Earlier::AnyTime } else { Earlier::None };
    standing(&job(value), &a_key(), &waiter(request_id), earlier)
}

#[test]
fn a_squatted_name_is_foreign() {
    let mut unlabelled = ours();
    unlabelled["metadata"]["labels"] = json!({});
    let mut other_key = ours();
    other_key["metadata"]["annotations"][manifest::KEY] = json!("sha256:0");
    let mut no_key = ours();
    no_key["metadata"]["annotations"] = json!({});
    for squatted in [unlabelled, other_key, no_key] {
        assert!(matches!(stands(squatted, "r-1", true), Standing::Foreign { .. }));
    }
}

#[test]
fn a_job_that_owes_answers_can_be_joined_until_it_goes_away() {
    let Standing::Joinable { uid, finalizer_index, already_waiting, owed, ended, load } = stands(ours(), "r-2", false)
    else {
        panic!()
    };
    assert_eq!(
        (uid.as_str(), finalizer_index, already_waiting || owed, ended, load.waiters),
        ("u-1", 1, false, false, 1)
    );
    assert_eq!(load.room(), MAX_WAITERS - 1);
    assert!(matches!(stands(ours(), "r-1", true), Standing::Joinable { already_waiting: true, owed: true, .. }));
    assert!(matches!(stands(ours(), "r-1", false), Standing::Joinable { already_waiting: true, owed: false, .. }));
    let mut going = ours();
    going["metadata"]["deletionTimestamp"] = json!("2026-11-24T12:00:00Z");
    assert_eq!(stands(going.clone(), "r-2", false), Standing::Terminating);
    assert_eq!(stands(going.clone(), "r-1", false), Standing::Terminating, "a new try has to wait");
    let redelivered = stands(going.clone(), "r-1", true);
    assert!(matches!(redelivered, Standing::Joinable { owed: true, .. }), "it is owed an answer there");
    going["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
    assert_eq!(stands(going.clone(), "r-1", true), Standing::Terminating, "no outcome on it");
    going["metadata"]["annotations"][manifest::OUTCOME] = json!("{}");
    assert_eq!(stands(going, "r-1", true), Standing::Answered);
}

#[test]
fn only_the_redelivery_of_an_answered_request_counts_as_answered() {
    let mut answered = ours();
    answered["metadata"]["finalizers"] = json!(["foregroundDeletion"]);
    let ended = Standing::Ended { uid: "u-1".into() };
    assert_eq!(stands(answered.clone(), "r-1", true), ended, "no outcome on it yet");
    answered["metadata"]["annotations"][manifest::OUTCOME] = json!("{}");
    assert_eq!(stands(answered.clone(), "r-1", true), Standing::Answered);
    assert_eq!(stands(answered.clone(), "r-1", false), ended, "sent again by its producer: a new try");
    assert_eq!(stands(answered.clone(), "r-2", true), ended, "another request");
    let since = |at: jiff::Timestamp| standing(&job(answered.clone()), &a_key(), &waiter("r-1"), Earlier::Since(at));
    let came = waiter("r-1").received_at;
    assert_eq!(since(came), Standing::Answered);
    assert_eq!(since(came + jiff::SignedDuration::from_nanos(1)), ended, "the claim is of a request before it");
}

#[test]
fn tampered_annotations_are_counted_and_the_others_read() {
    let mut value = ours();
    value["metadata"]["annotations"]["jobquay.dev/w.0000000000000000"] = json!("{\"r\":");
    value["metadata"]["annotations"][manifest::RESULT] = json!("stdout");
    value["metadata"]["annotations"][manifest::CACHE] = json!("[]");
    let job = job(value);
    let (waiters, unreadable) = waiters(&job);
    assert_eq!((waiters, unreadable), (vec![waiter("r-1")], 1));
    assert_eq!(result_plan(&job), None);
    assert!(!cache_plan(&job).store);
}

#[test]
fn a_job_is_full_by_number_or_by_weight() {
    assert_eq!(Load { waiters: 250, bytes: 1000 }.room(), 6);
    assert_eq!(Load { waiters: 300, bytes: 1000 }.room(), 0);
    assert_eq!(Load { waiters: 3, bytes: 64 << 10 }.room(), 0);
}

#[test]
fn the_marks_of_all_patches_add_up() {
    let mut value = ours();
    assert_eq!(overflowed(&job(value.clone())), 0);
    for (mark, count) in [("a", "3"), ("b", "40"), ("c", "many")] {
        value["metadata"]["annotations"][format!("{}{mark}", manifest::OVERFLOW_PREFIX)] = json!(count);
    }
    assert_eq!(overflowed(&job(value)), 43);
}

#[test]
fn a_recorded_giving_up_comes_before_every_verdict_and_an_unreadable_one_counts_for_nothing() {
    let conditions = json!([{"type": "Complete", "status": "True"}]);
    let noted = |note: &str| {
        let annotations = json!({"jobquay.dev/given-up": note});
        ending(&job(json!({"metadata": {"annotations": annotations}, "status": {"conditions": conditions}})))
    };
    let note = r#"{"code": "start.image", "reason": "ErrImagePull", "message": "M", "newer": 1}"#;
    assert!(matches!(noted(note), Some(Ending::GivenUp(given_up)) if given_up.reason == "ErrImagePull"));
    assert_eq!(noted("{}"), Some(Ending::Succeeded));
}

#[test]
fn a_recorded_success_of_a_pod_comes_before_every_verdict_of_the_job() {
    let marked = |note: &str, status: Value| {
        job(json!({"metadata": {"annotations": {"jobquay.dev/succeeded": note}}, "status": status}))
    };
    let note = r#"{"pod": "p", "at": "2026-11-24T12:00:00Z", "newer": 1}"#;
    let failed =
        json!({"failed": 2, "conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]});
    let job = marked(note, failed.clone());
    assert_eq!(ending(&job), Some(Ending::Succeeded));
    assert_eq!((attempts(&job), finished_at(&job)), (3, Some("2026-11-24T12:00:00Z".parse().unwrap())));
    assert_eq!(attempts(&marked(note, json!({"succeeded": 1}))), 1, "it is counted meanwhile");
    assert!(matches!(ending(&marked("{}", failed)), Some(Ending::Failed { .. })));
}

#[test]
fn a_job_is_unwanted_when_the_last_of_its_waiters_has_cancelled() {
    let with = |cancelled: [bool; 2], overflow: bool| {
        let mut annotations = serde_json::Map::new();
        for (index, cancelled) in cancelled.into_iter().enumerate() {
            let reason = cancelled.then(|| "no more".to_owned());
            let waiter = Waiter { cancelled: reason, ..waiter(&format!("r-{index}")) };
            annotations.insert(manifest::waiter_annotation(&waiter), json!(manifest::encode_waiter(&waiter)));
        }
        if overflow {
            annotations.insert("jobquay.dev/overflow.00000001".into(), json!("1"));
        }
        is_unwanted(&job(json!({"metadata": {"annotations": annotations}})))
    };
    assert!(with([true, true], false));
    assert!(!with([true, false], false) && !with([true, true], true));
}

#[test]
fn a_claim_is_told_from_an_earlier_one_under_the_same_id() {
    let job = job(ours());
    let own = waiter("r-1");
    let later = own.received_at + jiff::SignedDuration::from_nanos(1);
    assert!(holds_claim(&job, &own));
    assert!(!holds_claim(&job, &Waiter { received_at: later, ..own }));
    assert!(!holds_claim(&job, &waiter("r-2")));
}

#[test]
fn a_job_is_late_by_more_than_clocks_may_differ() {
    let deadline = jiff::Timestamp::from_second(100).unwrap();
    let created = |second| {
        let at = jiff::Timestamp::from_second(second).unwrap();
        was_created_after(&job(json!({"metadata": {"creationTimestamp": at.to_string()}})), deadline)
    };
    assert_eq!([99, 100, 102, 103].map(created), [false, false, false, true]);
    assert!(!was_created_after(&Job::default(), deadline));
}
