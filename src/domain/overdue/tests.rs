use std::time::Duration;

use serde_json::{Value, json};

use super::*;

const LIMITS: Limits =
    Limits { start: Duration::from_secs(300), image_pull: Duration::from_secs(120), run: Duration::from_secs(60) };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn job(spec: Value, status: Value) -> JobFacts {
    let limits = json!(LIMITS).to_string();
    let metadata = json!({"creationTimestamp": at(0), "annotations": {"jobquay.dev/limits": limits}});
    JobFacts::of(&serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap())
        .unwrap()
}

fn started() -> JobFacts {
    job(json!({}), json!({"startTime": at(0)}))
}

fn pod(status: Value) -> Option<PodFacts> {
    PodFacts::of(&serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "status": status})).unwrap())
}

fn waiting_for(reason: &str) -> Vec<PodFacts> {
    let scheduled = json!([{"type": "PodScheduled", "status": "True", "lastTransitionTime": at(10)}]);
    let waiting = json!([{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": reason, "message": "M"}}}]);
    vec![pod(json!({"phase": "Pending", "conditions": scheduled, "containerStatuses": waiting})).unwrap()]
}

fn running_since(seconds: i64) -> Vec<PodFacts> {
    let status = json!([{"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {"startedAt": at(seconds)}}}]);
    vec![pod(json!({"phase": "Running", "containerStatuses": status})).unwrap()]
}

fn code_at(pods: &[PodFacts], seconds: i64, events: &[Told]) -> Option<FailureCode> {
    match judge(&started(), pods, at(seconds)) {
        Judgement::Overdue(overdue) => Some(overdue.give_up(LIMITS, events).code),
        _ => None,
    }
}

fn told(reason: &str, message: &str) -> Told {
    Told { reason: reason.into(), message: message.into() }
}

#[test]
fn each_hindrance_has_its_limit_and_its_word() {
    for (reason, in_time, overdue, code) in [
        ("ImagePullBackOff", 129, 130, FailureCode::StartImage),
        ("ErrImagePull", 129, 130, FailureCode::StartImage),
        ("CreateContainerConfigError", 299, 300, FailureCode::StartConfig),
        ("ContainerCreating", 299, 300, FailureCode::StartConfig),
    ] {
        let pods = waiting_for(reason);
        assert_eq!((code_at(&pods, in_time, &[]), code_at(&pods, overdue, &[])), (None, Some(code)), "{reason}");
    }
    assert_eq!(code_at(&waiting_for("InvalidImageName"), 11, &[]), Some(FailureCode::StartImage), "at once");
    let unscheduled = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1"}]);
    let pods = vec![pod(json!({"phase": "Pending", "conditions": unscheduled})).unwrap()];
    assert_eq!((code_at(&pods, 299, &[]), code_at(&pods, 300, &[])), (None, Some(FailureCode::StartUnschedulable)));
}

#[test]
fn events_tell_what_a_status_does_not() {
    let creating = waiting_for("ContainerCreating");
    let mount = [told("Scheduled", ""), told("FailedMount", "secret \"s\" not found")];
    assert_eq!(code_at(&creating, 300, &mount), Some(FailureCode::StartConfig));
    assert_eq!(code_at(&creating, 300, &[told("Pulling", "Pulling image")]), Some(FailureCode::StartImage));
    for (message, code) in [
        ("pods \"p\" is forbidden: exceeded quota: q", FailureCode::StartQuota),
        ("pods \"p\" is forbidden: violates PodSecurity \"restricted\"", FailureCode::StartDenied),
        ("pods \"p\" is forbidden: error looking up service account w/s", FailureCode::StartConfig),
    ] {
        let events = [told("FailedCreate", message)];
        assert_eq!(code_at(&[], 300, &events), Some(code), "{message}");
        assert_eq!(denial(&events).is_some(), code == FailureCode::StartDenied, "{message}");
    }
    // As an API server says that has just begun: it takes the pod a moment later.
    let begins = [told("FailedCreate", "pods \"p\" is forbidden: not yet ready to handle request")];
    assert!(denial(&begins).is_none());
    assert_eq!(judge(&started(), &[], at(5)), Judgement::InTime(Some(at(10))));
    assert_eq!(judge(&started(), &[], at(10)), Judgement::Odd { until: at(300) });
}

#[test]
fn a_run_is_counted_from_the_first_start() {
    let pods = running_since(200);
    assert_eq!(judge(&started(), &pods, at(259)), Judgement::InTime(Some(at(260))));
    assert_eq!(judge(&started(), &pods, at(260)), Judgement::Overdue(Overdue::Run));
    let retried = [running_since(200), waiting_for("ImagePullBackOff")].concat();
    assert_eq!(judge(&started(), &retried, at(260)), Judgement::Overdue(Overdue::Run));
}

#[test]
fn a_suspended_job_runs_down_no_clock_and_begins_anew_when_resumed() {
    let suspended = json!([{"type": "Suspended", "status": "True", "lastTransitionTime": at(1)}]);
    for stands in [
        job(json!({"suspend": true, "template": {}}), json!({})),
        job(json!({"suspend": false, "template": {}}), json!({"conditions": suspended})),
    ] {
        assert_eq!(judge(&stands, &[], at(100_000)), Judgement::InTime(None));
    }
    let resumed = json!([{"type": "Suspended", "status": "False", "lastTransitionTime": at(1000)}]);
    let job = job(json!({"template": {}}), json!({"conditions": resumed, "startTime": at(1000)}));
    assert_eq!(judge(&job, &waiting_for("ContainerCreating"), at(1299)), Judgement::InTime(Some(at(1300))));
}

#[test]
fn what_ran_before_a_suspension_counts_for_nothing_and_a_failed_try_of_the_same_run_does() {
    let resumed = json!([{"type": "Suspended", "status": "False", "lastTransitionTime": at(1000)}]);
    let job = job(json!({"template": {}}), json!({"conditions": resumed, "startTime": at(1000)}));
    let leaving = |started| running_since(started).into_iter().map(|pod| PodFacts { leaving: true, ..pod });
    let before: Vec<_> = leaving(500).collect();
    assert_eq!(judge(&job, &before, at(1001)), judge(&job, &[], at(1001)), "as if it were not there");
    let both: Vec<_> = leaving(500).chain(running_since(1010)).collect();
    assert_eq!(judge(&job, &both, at(1011)), judge(&job, &running_since(1010), at(1011)));
    let evicted: Vec<_> = leaving(1005).chain(running_since(1030)).collect();
    assert_eq!(judge(&job, &evicted, at(1031)), judge(&job, &running_since(1005), at(1031)));
}

#[test]
fn a_job_that_has_ended_is_never_overdue() {
    let done = json!([{"type": "Complete", "status": "True"}]);
    assert_eq!(judge(&job(json!({}), json!({"conditions": done})), &[], at(9999)), Judgement::InTime(None));
}

#[test]
fn a_pod_that_goes_away_hinders_nothing() {
    assert_eq!(pod(json!({"phase": "Failed"})), None);
}
