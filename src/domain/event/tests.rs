use std::fmt::Write as _;

use serde_json::{Value, json};

use super::*;
use crate::domain::outcome::FailureCode;
use crate::domain::rejection::Code;

fn waiter() -> Waiter {
    serde_json::from_value(json!({
        "r": "r-1", "q": "replies", "c": "c-1", "t": "2026-11-24T10:00:00Z",
        "tp": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    }))
    .unwrap()
}

fn encoded(waiter: &Waiter, verdict: Verdict<'_>) -> Value {
    let job = JobInfo { namespace: "work".into(), name: "jq-t-x".into(), uid: "u-1".into(), attempts: 1 };
    let key = RequestKey::from_hex(&"ab".repeat(32)).unwrap();
    let event = Event {
        waiter,
        verdict,
        key: Some(&key),
        template: Some("thumbnail"),
        job: Some(&job),
        timings: Timings::default(),
    };
    serde_json::from_slice(&event.encode(&source("test"), Timestamp::UNIX_EPOCH).body).unwrap()
}

fn result_of(bytes: &[u8]) -> Value {
    let payload = Payload::new(bytes.to_vec());
    let view = ResultView { payload: &payload, age_seconds: 3, expires_at: None, reference: None };
    encoded(&waiter(), Verdict::Succeeded { served_by: ServedBy::Cache, result: Some(view) })["data"]["result"].clone()
}

/// The wire contract: one event of each state, as bytes.
#[test]
fn the_events_are_pinned() {
    let failure = Failure {
        code: FailureCode::JobFailed,
        message: "Job has reached the specified backoff limit".into(),
        exit_code: Some(2),
        reason: Some("BackoffLimitExceeded".into()),
        log_tail: Some("no such bucket".into()),
    };
    let rejection = Rejection::at(Code::ParamsInvalid, "/params/url", "1 is not of type \"string\"");
    let payload = Payload::new(b"{\"ok\":true}\n".to_vec());
    let view =
        ResultView { payload: &payload, age_seconds: 0, expires_at: Some(Timestamp::UNIX_EPOCH), reference: None };
    let mut actual = String::new();
    for verdict in [
        Verdict::Succeeded { served_by: ServedBy::Executed, result: Some(view) },
        Verdict::Failed { served_by: ServedBy::Coalesced, failure: &failure },
        Verdict::Rejected(&rejection),
        Verdict::Expired { deadline: Timestamp::UNIX_EPOCH },
        Verdict::Accepted,
        Verdict::Started,
        Verdict::Cancelled { reason: "wrong bucket" },
    ] {
        writeln!(actual, "{:#}", encoded(&waiter(), verdict)).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/events.json");
    if std::env::var_os("JOBQUAY_PIN").is_some() {
        std::fs::write(path, &actual).unwrap();
    }
    assert_eq!(actual, std::fs::read_to_string(path).unwrap(), "run with JOBQUAY_PIN=1 to accept");
}

#[test]
fn a_result_is_json_text_or_base64_and_exactly_one_of_them() {
    assert_eq!(result_of(b"{\"ok\": true}\n")["json"], json!({"ok": true}));
    assert_eq!(result_of(b"hello\n")["text"], "hello\n");
    assert_eq!(result_of(b"\xff\x00")["base64"], "/wA=");
    for bytes in [&b"[1]"[..], b"text", b"\xff", b""] {
        let result = result_of(bytes);
        let shown = ["json", "text", "base64", "ref"].iter().filter(|field| result.get(**field).is_some()).count();
        assert_eq!(shown, 1, "{result}");
        assert_eq!(result["bytes"], bytes.len());
    }
}

#[test]
fn json_keeps_its_digits() {
    let payload = Payload::new(b"12345678901234567890".to_vec());
    let waiter = waiter();
    let view = ResultView { payload: &payload, age_seconds: 0, expires_at: None, reference: None };
    let verdict = Verdict::Succeeded { served_by: ServedBy::Executed, result: Some(view) };
    let event = Event { waiter: &waiter, verdict, key: None, template: None, job: None, timings: Timings::default() };
    let text = String::from_utf8(event.encode(&source("test"), Timestamp::UNIX_EPOCH).body).unwrap();
    assert!(text.contains("\"json\":12345678901234567890"), "{text}");
}

#[test]
fn a_large_result_is_a_reference() {
    let payload = Payload::new(b"large".to_vec());
    let reference = Reference { url: None, redis_key: "jobquay:result:ab".into() };
    let view = ResultView { payload: &payload, age_seconds: 0, expires_at: None, reference: Some(&reference) };
    let result =
        &encoded(&waiter(), Verdict::Succeeded { served_by: ServedBy::Executed, result: Some(view) })["data"]["result"];
    assert_eq!(result["ref"], json!({"redis_key": "jobquay:result:ab"}));
    assert!(result.get("text").is_none());
}

#[test]
fn the_id_is_the_same_for_every_way_to_the_same_state() {
    let waiter = waiter();
    let id = |verdict| encoded(&waiter, verdict)["id"].as_str().unwrap().to_owned();
    let executed = id(Verdict::Succeeded { served_by: ServedBy::Executed, result: None });
    let cached = id(Verdict::Succeeded { served_by: ServedBy::Cache, result: None });
    assert_eq!(executed, cached);
    assert_eq!(executed, format!("r-1/{}/succeeded", &waiter.id()[..8]));
}
