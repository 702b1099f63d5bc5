use super::*;
use crate::domain::rejection::Code;
use serde_json::json;

fn arrival(body: &[u8]) -> Arrival {
    Arrival {
        id: MessageId::Given("m-1".into()),
        reply_to: Some("replies".into()),
        correlation_id: Some("c-1".into()),
        user_id: Some("anna".into()),
        ..Arrival::bare(body.to_vec(), "minted".into(), Timestamp::UNIX_EPOCH)
    }
}

fn accepted(body: Value) -> Request {
    run(&arrival(body.to_string().as_bytes()), 1 << 18).expect("must be accepted")
}

fn run(arrival: &Arrival, max_body: u64) -> Result<Request, Box<Unparsed>> {
    parse(arrival, max_body).map(|asked| asked.run().expect("asks for a run"))
}

fn refused(body: &[u8]) -> Rejection {
    run(&arrival(body), 1 << 18).expect_err("must be refused").rejection
}

#[test]
fn a_template_request_is_read_whole() {
    let request = accepted(json!({
        "template": "thumbnail", "params": {"url": "s3://b/k"},
        "cache": {"mode": "refresh", "ttl": "1h", "max_age": "10m", "no_store": true, "salt": "2026-11"},
        "on_duplicate": "reject", "deadline": "2026-11-24T12:00:00Z", "events": "terminal", "labels": {"team": "media"}
    }));
    assert_eq!(request.cache.mode, CacheMode::Refresh);
    assert_eq!(request.cache.ttl, Some(Duration::from_secs(3600)));
    assert_eq!(request.on_duplicate, OnDuplicate::Reject);
    assert_eq!(request.labels, [("team".to_owned(), "media".to_owned())]);
    assert_eq!(request.producer.as_deref(), Some("anna"));
    assert!(matches!(request.work, Work::Template { name, .. } if name == "thumbnail"));
}

#[test]
fn an_inline_request_is_read_whole() {
    let request = accepted(
        json!({"job": {"name": "nightly-query", "image": "r/w@sha256:0", "command": ["c"], "args": ["--day"],
        "env": {"K": "v"}, "secret": {"name": "gcp-key", "mount": "/var/secrets/google"}, "resources": {"cpu": "500m"}}}),
    );
    let Work::Inline(job) = request.work else { panic!("not inline") };
    assert_eq!(job.secret.unwrap().mount, "/var/secrets/google");
    assert_eq!((job.cpu.as_deref(), job.memory), (Some("500m"), None));
}

#[test]
fn every_refusal_names_its_code_and_place() {
    for (body, code, pointer) in [
        (r"{", Code::Malformed, Some("")),
        (r"[]", Code::Malformed, Some("")),
        (r"{}", Code::Malformed, Some("")),
        (r#"{"template": "t", "job": {}}"#, Code::Malformed, Some("")),
        (r#"{"template": 7}"#, Code::Malformed, Some("/template")),
        (r#"{"template": "t", "params": []}"#, Code::Malformed, Some("/params")),
        (r#"{"template": "t", "parms": {}}"#, Code::UnknownField, Some("/parms")),
        (r#"{"template": "t", "params": {"n": 9007199254740993}}"#, Code::NumberOutOfRange, Some("/params/n")),
        (r#"{"template": "t", "params": {"a": 1, "a": 2}}"#, Code::Malformed, Some("/params/a")),
        (r#"{"template": "t", "cache": {"mode": "sometimes"}}"#, Code::Malformed, Some("/cache/mode")),
        (r#"{"template": "t", "cache": {"ttl": "soon"}}"#, Code::Malformed, Some("/cache/ttl")),
        (r#"{"template": "t", "deadline": "tomorrow"}"#, Code::Malformed, Some("/deadline")),
        (r#"{"template": "t", "labels": {"jobquay.dev/key": "x"}}"#, Code::Malformed, Some("/labels/jobquay.dev~1key")),
        (r#"{"job": {"name": "x"}}"#, Code::Malformed, Some("/job/image")),
        (r#"{"job": {"name": "X", "image": "i"}}"#, Code::Malformed, Some("/job/name")),
        (r#"{"job": {"name": "x", "image": "i", "hostPath": "/"}}"#, Code::UnknownField, Some("/job/hostPath")),
        (
            r#"{"job": {"name": "x", "image": "i", "secret": {"name": "s", "mount": "/a/../b"}}}"#,
            Code::Malformed,
            Some("/job/secret/mount"),
        ),
        (
            r#"{"job": {"name": "x", "image": "i", "secret": {"name": "s", "mount": "//./"}}}"#,
            Code::Malformed,
            Some("/job/secret/mount"),
        ),
        (r#"{"job": {"name": "x", "image": "i", "env": {"A": 1}}}"#, Code::Malformed, Some("/job/env/A")),
        (r#"{"job": {"name": "x", "image": "i", "env": {"A": "\u0000"}}}"#, Code::Malformed, Some("/job/env/A")),
        (
            r#"{"template": "t", "labels": {"JobQuay.dev/open": "x"}}"#,
            Code::Malformed,
            Some("/labels/JobQuay.dev~1open"),
        ),
        (r#"{"template": "t", "labels": {"/open": "x"}}"#, Code::Malformed, Some("/labels/~1open")),
    ] {
        let rejection = refused(body.as_bytes());
        assert_eq!((rejection.code, rejection.pointer.as_deref()), (code, pointer), "{body}: {}", rejection.message);
    }
}

#[test]
fn a_body_over_the_limit_is_refused_unread_and_still_answered() {
    let unparsed = run(&arrival(&[b' '; 11]), 10).unwrap_err();
    assert_eq!(unparsed.rejection.code, Code::TooLarge);
    assert_eq!(unparsed.waiter.reply_to.as_deref(), Some("replies"));
    assert_eq!(unparsed.waiter.correlation_id.as_deref(), Some("c-1"));
}

#[test]
fn a_request_without_an_id_gets_the_minted_one() {
    let body = br#"{"template": "t"}"#.to_vec();
    let request = run(&Arrival { id: MessageId::Minted("minted".into()), ..arrival(&body) }, 100).unwrap();
    assert_eq!(request.waiter.request_id, "minted");
}

#[test]
fn a_cloud_event_carries_the_request_as_data_and_is_identified_by_source_and_id() {
    let body = json!({"specversion": "1.0", "source": "//shop", "id": "42", "type": "x", "data": {"template": "t"}})
        .to_string();
    let event = Arrival {
        content_type: Some("application/cloudevents+json; charset=utf-8".into()),
        id: MessageId::Minted("minted".into()),
        ..arrival(body.as_bytes())
    };
    assert_eq!(run(&event, 1000).unwrap().waiter.request_id, "//shop/42");
    let bad = Arrival { body: body.replace("template", "tmplate").into_bytes(), ..event };
    assert_eq!(run(&bad, 1000).unwrap_err().rejection.pointer.as_deref(), Some("/data"));
}

#[test]
fn a_cloud_event_without_an_identity_is_refused() {
    let body = json!({"specversion": "1.0", "source": "//shop", "id": "", "type": "x", "data": {"template": "t"}});
    let content_type = Some("application/cloudevents+json".into());
    let event = Arrival { content_type, ..arrival(body.to_string().as_bytes()) };
    assert_eq!(run(&event, 1000).unwrap_err().rejection.pointer.as_deref(), Some("/id"));
}

#[test]
fn a_quantity_of_many_digits_is_refused() {
    let body = json!({"job": {"name": "x", "image": "i", "resources": {"cpu": "9".repeat(33)}}}).to_string();
    assert_eq!(refused(body.as_bytes()).pointer.as_deref(), Some("/job/resources/cpu"));
}

#[test]
fn only_plain_json_is_read() {
    for (content_type, content_encoding) in [(Some("text/plain"), None), (None, Some("gzip"))] {
        let message = Arrival {
            content_type: content_type.map(Into::into),
            content_encoding: content_encoding.map(Into::into),
            ..arrival(br#"{"template": "t"}"#)
        };
        assert_eq!(run(&message, 100).unwrap_err().rejection.code, Code::Malformed);
    }
}

#[test]
fn an_id_too_long_for_an_event_id_is_refused_with_a_stable_stand_in() {
    let message = Arrival { id: MessageId::Given("x".repeat(201)), ..arrival(br#"{"template": "t"}"#) };
    let first = run(&message, 100).unwrap_err();
    assert_eq!(first.rejection.code, Code::Malformed);
    assert_eq!(first, run(&message, 100).unwrap_err());
    assert!(first.waiter.request_id.len() < 40);
}

#[test]
fn a_trace_context_is_kept_only_when_it_is_one() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (given, kept) in [(parent, true), ("00-xyz", false), ("", false)] {
        let message = Arrival { traceparent: Some(given.into()), ..arrival(br#"{"template": "t"}"#) };
        assert_eq!(run(&message, 100).unwrap().waiter.traceparent.is_some(), kept, "{given}");
    }
    for (given, kept) in [("vendor=opaque value", true), ("a=\u{1b}[31m", false), ("a=ä", false)] {
        let message = Arrival { tracestate: Some(given.into()), ..arrival(br#"{"template": "t"}"#) };
        assert_eq!(run(&message, 100).unwrap().waiter.tracestate.is_some(), kept, "{given}");
    }
}

#[test]
fn what_came_before_is_known_only_of_a_request_that_was_not_delivered_before_it_was_parked() {
    let at = |redelivered: bool, parked: bool, in_doubt: bool| {
        let arrival = Arrival { redelivered, parked, in_doubt, ..arrival(br#"{"template": "t"}"#) };
        run(&arrival, 1 << 18).expect("must be accepted").earlier
    };
    let since = Earlier::Since(Timestamp::UNIX_EPOCH);
    assert_eq!((at(false, false, false), at(true, false, false)), (Earlier::None, Earlier::AnyTime));
    assert_eq!((at(false, true, false), at(true, true, false)), (since, since), "the lane keeps when it came first");
    assert_eq!((at(false, true, true), at(true, true, true)), (Earlier::AnyTime, Earlier::AnyTime));
}
