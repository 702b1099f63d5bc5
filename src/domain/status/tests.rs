use serde_json::json;

use super::*;
use crate::domain::event::{ServedBy, Timings, Verdict};
use crate::domain::outcome::{Failure, FailureCode};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn waiter(reply_to: &str) -> Waiter {
    Waiter { reply_to: Some(reply_to.into()), producer: Some("anna".into()), ..Waiter::new("r-1", at(1)) }
}

fn received(waiter: &Waiter) -> Noted {
    let arrival = Arrival::bare(br#"{"template": "t"}"#.to_vec(), "r-1".into(), waiter.received_at);
    let key = RequestKey::from_hex(&"ab".repeat(32)).unwrap();
    Noted::received(&arrival, waiter, Some(&key), Some("t"))
}

fn told(waiter: &Waiter, verdict: Verdict<'_>, second: i64) -> Noted {
    let event = Event { waiter, verdict, key: None, template: Some("t"), job: None, timings: Timings::default() };
    let body = event.encode("//jobquay/test", at(second)).body;
    Noted::told(&event, &body, at(second)).unwrap()
}

/// As they come back from where they are kept, in any order.
fn status(notes: Vec<Noted>) -> Status {
    let read = |noted: Noted| {
        let text = serde_json::to_string(&noted.note).unwrap();
        (noted.name, serde_json::from_str::<Note>(&text).unwrap())
    };
    Status::of("r-1", notes.into_iter().rev().map(read).collect()).unwrap()
}

fn moments(status: &Status) -> Vec<&str> {
    status.timeline.iter().map(|moment| moment.what.as_str()).collect()
}

#[test]
fn a_request_waits_for_its_slot_then_for_its_job_and_is_told_its_end() {
    let waiter = waiter("q");
    let mut notes = vec![received(&waiter), Noted::parked(&waiter, "bulk", at(2))];
    let parked = status(notes.clone());
    assert_eq!((parked.state, parked.terminal), (Progress::Accepted, false));
    let waiting = parked.waiting.unwrap();
    assert_eq!((waiting.what, waiting.message.as_str()), (WaitsFor::Slot, "waiting for a slot in lane bulk"));
    assert_eq!((waiting.since, parked.template.as_deref()), (Some(at(2)), Some("t")));
    let job = JobName { namespace: "work".into(), name: "jq-t-x".into() };
    notes.push(Noted::new(&waiter, "placed", at(3), What::Placed(job.clone())));
    notes.push(Noted::started(&waiter, at(4)));
    let running = status(notes.clone());
    assert_eq!((running.state, running.job, running.waiting), (Progress::Started, Some(job), None));
    let failure = Failure::of_result(FailureCode::JobFailed, "exit 3");
    notes.push(told(&waiter, Verdict::Failed { served_by: ServedBy::Executed, failure: &failure }, 5));
    let ended = status(notes);
    assert_eq!((ended.state, ended.terminal, ended.finished_at), (Progress::Failed, true, Some(at(5))));
    assert_eq!(moments(&ended), ["received", "parked", "placed", "running", "failed"]);
    assert_eq!((ended.served_by.as_deref(), ended.producer.as_deref()), (Some("executed"), Some("anna")));
    let error: serde_json::Value = serde_json::from_str(ended.error.unwrap().get()).unwrap();
    assert_eq!((&error["code"], ended.events.len()), (&json!("job.failed"), 1));
    assert_eq!(ended.request.unwrap().get(), r#"{"template": "t"}"#);
}

#[test]
fn of_two_that_were_sent_under_one_id_the_later_one_is_shown() {
    let (first, second) = (waiter("q"), Waiter { received_at: at(10), ..waiter("other") });
    let expired = |waiter: &Waiter, second| told(waiter, Verdict::Expired { deadline: at(1) }, second);
    let status = status(vec![received(&first), expired(&first, 2), received(&second)]);
    assert_eq!((status.state, status.reply_to.as_deref()), (Progress::Received, Some("other")));
    assert_eq!(moments(&status), ["received"]);
}

#[test]
fn an_end_stays_the_end_whatever_was_noted_late() {
    let waiter = waiter("q");
    let end = told(&waiter, Verdict::Expired { deadline: at(1) }, 2);
    let status = status(vec![end, Noted::started(&waiter, at(3))]);
    assert_eq!((status.state, status.terminal), (Progress::Expired, true));
}

#[test]
fn what_is_no_json_or_too_long_is_not_remembered() {
    for body in [b"{".to_vec(), vec![b' '; LONGEST_BODY + 1], b"\xff".to_vec()] {
        let arrival = Arrival::bare(body, "r-1".into(), at(1));
        let What::Received(received) = Noted::received(&arrival, &waiter("q"), None, None).note.what else { panic!() };
        assert!(received.body.is_none());
    }
}

#[test]
fn what_a_job_waits_for_is_said_in_words() {
    use k8s_openapi::api::batch::v1::Job;
    use k8s_openapi::api::core::v1::Pod;
    let job = |extra: serde_json::Value| -> Job {
        let mut job =
            json!({"metadata": {"creationTimestamp": "2026-11-24T10:00:00Z"}, "spec": {"template": {}}, "status": {}});
        for (name, value) in extra.as_object().unwrap() {
            job[name] = value.clone();
        }
        serde_json::from_value(job).unwrap()
    };
    let pod = |state: serde_json::Value| -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}, "status": state})).unwrap()
    };
    let container = |state: serde_json::Value| json!({"containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]});
    let waiting = |reason: &str| container(json!({"waiting": {"reason": reason, "message": "no such thing"}}));
    let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]});
    let told = |reason: &str, message: &str| {
        vec![crate::domain::overdue::Told { reason: reason.into(), message: message.into() }]
    };
    let plain = job(json!({}));
    for (job, pods, events, what, says) in [
        (&plain, vec![], vec![], WaitsFor::Pod, "its pod is being made"),
        (&plain, vec![], told("FailedCreate", "exceeded quota: q"), WaitsFor::Quota, "quota: exceeded quota: q"),
        (&plain, vec![], told("FailedCreate", "no"), WaitsFor::Pod, "its pod cannot be made: no"),
        (&plain, vec![pod(unscheduled)], vec![], WaitsFor::Node, "unschedulable: 0/3 nodes"),
        (
            &plain,
            vec![pod(waiting("ImagePullBackOff"))],
            vec![],
            WaitsFor::Image,
            "its image cannot be pulled: no such thing",
        ),
        (
            &plain,
            vec![pod(waiting("CreateContainerConfigError"))],
            vec![],
            WaitsFor::Configuration,
            "its container cannot be made: no such thing",
        ),
        (&plain, vec![pod(json!({}))], told("Pulling", "image x"), WaitsFor::Image, "pulling image: image x"),
        (&plain, vec![pod(json!({}))], vec![], WaitsFor::Container, "its container is being made"),
        (
            &job(json!({"spec": {"suspend": true, "template": {}}})),
            vec![],
            vec![],
            WaitsFor::Resumption,
            "suspended: its Job is not let begin yet",
        ),
    ] {
        let waiting = Waiting::on(job, &pods, &events).unwrap();
        assert_eq!((waiting.what, waiting.message.as_str()), (what, says));
    }
    let running = pod(container(json!({"running": {"startedAt": "2026-11-24T10:00:01Z"}})));
    assert_eq!(Waiting::on(&plain, &[running], &[]), None);
}
