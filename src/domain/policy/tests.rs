use std::num::NonZeroU32;
use std::time::Duration;

use super::*;
use crate::domain::request::{Arrival, parse};

const FILE: &str = r#"
policies:
- name: media
  users: [media]
  templates: ["thumb.*"]
  inline: {images: ['registry\.local/.*']}
  secrets: [gcp-key]
  reply_to: ['media\..*']
"#;

fn request(user: &str, body: &str) -> Request {
    let arrival =
        Arrival { user_id: Some(user.into()), ..Arrival::bare(body.into(), "m".into(), jiff::Timestamp::UNIX_EPOCH) };
    parse(&arrival, 4096).unwrap().run().unwrap()
}

#[test]
fn the_first_match_decides_and_no_match_is_a_refusal() {
    let policies = Policies::load(FILE).unwrap();
    for (user, body, allowed) in [
        ("media", r#"{"template": "thumbnail"}"#, true),
        ("media", r#"{"template": "my-thumbnail"}"#, false),
        ("media2", r#"{"template": "thumbnail"}"#, false),
        ("media", r#"{"job": {"name": "n", "image": "registry.local/worker:1"}}"#, true),
        ("media", r#"{"job": {"name": "n", "image": "evil/registry.local/worker:1"}}"#, false),
        (
            "media",
            r#"{"job": {"name": "n", "image": "registry.local/w", "secret": {"name": "gcp-key", "mount": "/s"}}}"#,
            true,
        ),
        (
            "media",
            r#"{"job": {"name": "n", "image": "registry.local/w", "secret": {"name": "other", "mount": "/s"}}}"#,
            false,
        ),
    ] {
        let verdict = policies.allow_work(&request(user, body));
        assert_eq!(verdict.is_ok(), allowed, "{user} {body}: {verdict:?}");
    }
}

#[test]
fn own_queues_are_never_a_reply_queue() {
    let policies = Policies::templates_only();
    assert!(policies.allow_reply(None, "anything").is_ok());
    for own in ["jobquay.requests", "jobquay.dead", "jobquay.waiters.x", ""] {
        assert_eq!(policies.allow_reply(None, own).unwrap_err().code, Code::ReplyToDenied);
    }
    assert!(Policies::load(FILE).unwrap().allow_reply(Some("media"), "other.replies").is_err());
}

#[test]
fn without_a_file_there_are_no_inline_jobs() {
    let inline = request("anna", r#"{"job": {"name": "n", "image": "i"}}"#);
    assert_eq!(Policies::templates_only().allow_work(&inline).unwrap_err().code, Code::PolicyDenied);
}

#[test]
fn a_wrong_file_is_refused_by_policy_and_field() {
    assert!(Policies::load(&FILE.replace("thumb.*", "thumb(")).unwrap_err().contains("policy `media`, templates"));
    assert!(Policies::load(&FILE.replace("reply_to", "reply-to")).unwrap_err().contains("reply-to"));
}

const WHOLE: &str = r#"
policies:
- name: media
  users: [media-.*]
  templates: [thumb.*]
  inline: {images: ['registry/.*@sha256:.*']}
  secrets: [gcp-key]
  service_accounts: [reader]
  namespaces: [work, media-.*]
  reply_to: ['replies\..*']
  priority_class: batch-low
  lane: media
  limits: {in_flight: 10, rate: 5/s}
- name: others
  users: [anna]
"#;

#[test]
fn the_terms_are_those_of_the_first_policy_that_matches() {
    let policies = Policies::load(WHOLE).unwrap();
    let rate = |count, seconds| Rate { count: NonZeroU32::new(count).unwrap(), per: Duration::from_secs(seconds) };
    let terms = Terms {
        policy: "media".into(),
        lane: Some("media".into()),
        in_flight: Some(10),
        rate: Some(rate(5, 1)),
        priority_class: Some("batch-low".into()),
    };
    assert_eq!(policies.terms(Some("media-1")), Some(&terms));
    let plain = Terms { policy: "others".into(), lane: None, in_flight: None, rate: None, priority_class: None };
    assert_eq!((policies.terms(Some("anna")), policies.terms(Some("berta"))), (Some(&plain), None));
    for (text, expected) in [("100/m", rate(100, 60)), ("1000/h", rate(1000, 3600))] {
        let policies = Policies::load(&WHOLE.replace("5/s", text)).unwrap();
        assert_eq!(policies.terms(Some("media-1")).unwrap().rate, Some(expected));
    }
}

#[test]
fn a_choice_needs_leave_and_a_namespace_of_its_own_is_the_only_one_that_nobody_has_to_allow() {
    let policies = Policies::load(WHOLE).unwrap();
    for (user, kind, value, allowed) in [
        ("media-1", Kind::Secret, "gcp-key", true),
        ("media-1", Kind::Secret, "gcp-key-2", false),
        ("media-1", Kind::ServiceAccount, "reader", true),
        ("media-1", Kind::ServiceAccount, "admin", false),
        ("media-1", Kind::Namespace, "media-2", true),
        ("media-1", Kind::Namespace, "own", false),
        ("anna", Kind::Secret, "gcp-key", false),
        ("anna", Kind::ServiceAccount, "reader", false),
        ("anna", Kind::Namespace, "own", true),
        ("anna", Kind::Namespace, "work", false),
    ] {
        let choice = Choice { kind, value: value.into(), pointer: "/params/x".into() };
        let verdict = policies.allow_choices(Some(user), &[choice], "own");
        let expected = if allowed { Ok(()) } else { Err((Code::PolicyDenied, Some("/params/x".to_owned()))) };
        assert_eq!(verdict.map_err(|denied| (denied.code, denied.pointer)), expected, "{user} {kind:?} {value}");
    }
}

#[test]
fn a_wrong_policy_is_refused_by_its_name_and_field() {
    for (from, to, named) in [
        ("rate: 5/s", "rate: 5/d", "policy `media`, limits.rate: `5/d`"),
        ("rate: 5/s", "rate: 0/s", "policy `media`, limits.rate: `0/s`"),
        ("rate: 5/s", "rate: '5'", "policy `media`, limits.rate: `5`"),
        ("in_flight: 10", "in_flight: 0", "policy `media`, limits.in_flight: must be at least 1"),
        ("in_flight: 10", "in_flight: -1", "in_flight"),
        ("lane: media", "lane: Media", "policy `media`, lane: `Media`"),
        ("lane: media", "lane: jobquay.requests", "policy `media`, lane"),
        ("priority_class: batch-low", "priority_class: batch_low", "policy `media`, priority_class: `batch_low`"),
        ("name: others", "name: media", "policy `media`: the name stands twice"),
        ("users: [anna]", "usres: [anna]", "usres"),
        ("  users: [anna]", "", "users"),
        // It would close the group that anchors it, and allow whatever starts with `anna`.
        ("users: [anna]", "users: ['anna)|(.*']", "policy `others`, users: `anna)|(.*`"),
        ("service_accounts: [reader]", "service_accounts: ['[']", "policy `media`, service_accounts: `[`"),
    ] {
        let changed = WHOLE.replacen(from, to, 1);
        assert_ne!(changed, WHOLE, "{from}");
        let error = Policies::load(&changed).expect_err(to);
        assert!(error.contains(named), "{to}: {error}");
    }
}
