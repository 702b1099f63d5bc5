//! What docs/compatibility.md promises, held against tests/fixtures/v1: what version 1 wrote when it was
//! fixed. `JOBQUAY_PIN` changes nothing there.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use serde::Deserialize;

use super::requests::check_keys;
use super::*;
use crate::cache::{self, Seal};
use crate::domain::job::{self, Ending};
use crate::domain::key::RequestKey;
use crate::domain::manifest;
use crate::domain::outcome::{Failure, FailureCode, Outcome};
use crate::domain::overdue::GivenUp;
use crate::domain::template::{Limits, ResultPlan, ResultSource};
use crate::domain::waiter::Waiter;
use crate::queue::topology::QUEUES;

/// What a consumer of version 1 may count on.
#[derive(Deserialize)]
struct EventView {
    specversion: String,
    id: String,
    #[serde(rename = "type")]
    kind: String,
    subject: String,
    data: DataView,
}

#[derive(Deserialize)]
struct DataView {
    request_id: String,
    state: String,
    terminal: bool,
    served_by: Option<String>,
    result: Option<ResultView>,
    error: Option<ErrorView>,
}

#[derive(Deserialize)]
struct ResultView {
    content_type: String,
    bytes: u64,
    sha256: String,
}

#[derive(Deserialize)]
struct ErrorView {
    code: String,
    #[expect(dead_code, reason = "that it is there is all that is asked")]
    message: String,
    #[expect(dead_code, reason = "that it is there is all that is asked")]
    retryable: bool,
}

const STATES: [(&str, bool); 7] = [
    ("accepted", false),
    ("started", false),
    ("succeeded", true),
    ("failed", true),
    ("cancelled", true),
    ("expired", true),
    ("rejected", true),
];
/// The classes of codes, by which a consumer judges a code that it does not know.
const CLASSES: [(&str, &[&str]); 4] = [
    ("failed", &["job", "start", "result"]),
    ("rejected", &["request", "template", "params", "policy", "reply_to", "duplicate", "cache", "cluster"]),
    ("expired", &["expired"]),
    ("cancelled", &["cancelled"]),
];

fn events(path: &str) -> Vec<Value> {
    serde_json::Deserializer::from_str(&read(path)).into_iter().map(Result::unwrap).collect()
}

#[test]
fn every_request_of_version_1_has_the_key_that_it_had() {
    assert!(check_keys("tests/fixtures/v1/requests").len() >= 40);
}

#[test]
fn a_consumer_of_version_1_reads_the_events() {
    for path in ["tests/fixtures/v1/events.json", "tests/fixtures/events.json"] {
        for event in events(path) {
            let view: EventView =
                serde_json::from_value(event.clone()).unwrap_or_else(|error| panic!("{path}: {error}: {event}"));
            let data = view.data;
            assert!(STATES.contains(&(data.state.as_str(), data.terminal)), "{event}");
            assert_eq!((view.specversion.as_str(), view.kind), ("1.0", format!("dev.jobquay.job.{}.v1", data.state)));
            assert!(view.id.starts_with(&data.request_id) && view.id.ends_with(&format!("/{}", data.state)), "{event}");
            assert_eq!(view.subject, data.request_id);
            assert!(
                data.served_by.is_none_or(|by| ["executed", "coalesced", "cache"].contains(&by.as_str())),
                "{event}"
            );
            if let Some(result) = data.result {
                assert!(!result.content_type.is_empty() && result.bytes > 0 && result.sha256.len() == 64, "{event}");
            }
            let class = data.error.as_ref().and_then(|error| error.code.split('.').next());
            let classes = CLASSES.iter().find(|(state, _)| *state == data.state).map(|(_, classes)| *classes);
            assert_eq!(class.is_some(), classes.is_some(), "{event}");
            assert!(class.is_none_or(|class| classes.unwrap().contains(&class)), "{event}");
        }
    }
}

/// Everything in `old` stands in `new`, with the same type.
fn keeps(old: &Value, new: &Value, pointer: &str) {
    assert_eq!(std::mem::discriminant(old), std::mem::discriminant(new), "{pointer}: {old} has become {new}");
    for (name, member) in old.as_object().into_iter().flatten() {
        let kept = new.get(name).unwrap_or_else(|| panic!("{pointer}/{name} is gone"));
        keeps(member, kept, &format!("{pointer}/{name}"));
    }
}

#[test]
fn no_field_of_an_event_has_gone_and_no_state() {
    let (old, new) = (events("tests/fixtures/v1/events.json"), events("tests/fixtures/events.json"));
    assert_eq!(old.len(), STATES.len());
    let schema = validator(&event());
    for event in &old {
        let state = &event["data"]["state"];
        let same =
            new.iter().find(|event| event["data"]["state"] == *state).unwrap_or_else(|| panic!("{state} is gone"));
        keeps(event, same, &state.to_string());
        assert!(schema.is_valid(event), "an event of version 1 no longer fits its schema: {event}");
    }
    let states: Vec<_> = new.iter().map(|event| event["data"]["state"].clone()).collect();
    assert!(states.iter().all(|state| STATES.iter().any(|(known, _)| state == known)), "a state was added: {states:?}");
}

#[test]
fn each_code_has_a_class_that_consumers_know() {
    let words = |schema: schemars::Schema| asyncapi::words(schema.as_value());
    for (state, words) in
        [("failed", words(schemars::schema_for!(FailureCode))), ("rejected", words(schemars::schema_for!(Code)))]
    {
        let classes = CLASSES.iter().find(|(known, _)| *known == state).unwrap().1;
        let of_version_1: Vec<String> = read("tests/fixtures/v1/codes.txt")
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("{state} ")))
            .map(Into::into)
            .collect();
        assert!(of_version_1.len() >= 10);
        for code in &of_version_1 {
            assert!(words.contains(&json!(code)), "{code} is gone");
        }
        for word in words {
            let class = word.as_str().unwrap().split('.').next().unwrap();
            assert!(classes.contains(&class), "{word} is of no known class");
        }
    }
}

#[test]
fn a_job_of_version_1_is_read_with_everyone_who_waits_on_it() {
    let job: Job = serde_json::from_str(&read("tests/fixtures/v1/job.json")).unwrap();
    let (mut waiters, unreadable) = job::waiters(&job);
    waiters.sort_by(|one, other| one.request_id.cmp(&other.request_id));
    assert_eq!(unreadable, 0);
    let least = Waiter::new("r-1", "2026-11-24T10:00:00Z".parse().unwrap());
    let most = Waiter {
        request_id: "r-2".into(),
        reply_to: Some("replies".into()),
        correlation_id: Some("c-2".into()),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        tracestate: Some("a=b".into()),
        created_job: true,
        overwrites: true,
        producer: Some("anna".into()),
        wants_progress: true,
        cancelled: Some("withdrawn".into()),
        ..least.clone()
    };
    // The ids are in the names of the annotations: one that is made in another way would add a waiter twice.
    for waiter in [&least, &most] {
        let name = manifest::waiter_annotation(waiter);
        assert!(job.metadata.annotations.as_ref().unwrap().contains_key(&name), "{name}");
    }
    assert_eq!(waiters, [least, most]);
    assert_eq!(job::key(&job), RequestKey::from_hex(&"ab".repeat(32)));
    assert_eq!(job::template(&job), "echo");
    assert_eq!(job::result_plan(&job), Some(ResultPlan { source: ResultSource::TerminationMessage, max: 65_536 }));
    let cache = job::cache_plan(&job);
    assert_eq!((cache.store, cache.ttl_seconds), (true, 3600));
    assert_eq!(job::overflowed(&job), 43);
    assert_eq!(job::finalizer_index(&job), Some(1));
}

/// With every annotation there is, each in the form in which it is written.
#[test]
fn a_job_in_full_is_read_and_written_in_the_same_form() {
    let job: Job = serde_json::from_str(&read("tests/fixtures/v1/job-in-full.json")).unwrap();
    let waiter = Waiter {
        request_id: "r-2".into(),
        reply_to: Some("replies".into()),
        correlation_id: Some("c-2".into()),
        received_at: "2026-11-24T10:00:00Z".parse().unwrap(),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        tracestate: Some("a=b".into()),
        created_job: true,
        overwrites: true,
        stale_if_error: Some(86_400),
        deadline: Some("2026-11-24T11:00:00Z".parse().unwrap()),
        producer: Some("anna".into()),
        wants_progress: true,
        cancelled: Some("withdrawn".into()),
    };
    assert_eq!(job::waiters(&job), (vec![waiter.clone()], 0));
    let limits = Limits {
        start: Duration::from_secs(300),
        image_pull: Duration::from_secs(120),
        run: Duration::from_secs(3600),
    };
    assert_eq!(job::limits(&job), Some(limits));
    let (code, message) = (FailureCode::StartImage, "no such image".to_owned());
    let given_up = GivenUp { code, message: message.clone(), reason: "ErrImagePull".into() };
    assert_eq!(job::ending(&job), Some(Ending::GivenUp(given_up.clone())));
    let cache = job::cache_plan(&job);
    assert_eq!((cache.store, cache.ttl_seconds), (true, 1800));
    let plan = ResultPlan { source: ResultSource::Redis, max: 65_536 };
    let upload = "jobquay:upload:30be72f8f2c65ca4df1ea0e4c8714539c1bc19458a789c9d67dbbf9841c8811e";
    assert_eq!((job::result_plan(&job), job::upload_key(&job).as_deref()), (Some(plan), Some(upload)));
    let occupant = job::occupant(&job);
    assert_eq!((occupant.lane.as_str(), occupant.producer.as_deref()), ("bulk", Some("anna")));
    assert_eq!((job::shard(&job), job::key(&job).map(|key| key.shard())), (30, Some(30)));
    assert_eq!(job::overflowed(&job), 40);

    let outcome = Outcome::Failed(Failure { code, message, exit_code: None, reason: None, log_tail: None });
    let mut result = json!(plan);
    result["key"] = upload.into();
    for (name, written) in [
        (manifest::waiter_annotation(&waiter), manifest::encode_waiter(&waiter)),
        (manifest::LIMITS.into(), json!(limits).to_string()),
        (manifest::GIVEN_UP.into(), json!(given_up).to_string()),
        (manifest::CACHE.into(), json!(cache).to_string()),
        (manifest::RESULT.into(), result.to_string()),
        (manifest::OUTCOME.into(), json!(outcome.record()).to_string()),
    ] {
        assert_eq!(job.metadata.annotations.as_ref().unwrap().get(&name), Some(&written), "{name}");
    }
}

#[test]
fn a_cached_value_of_version_1_is_a_result() {
    let key = RequestKey::from_hex(&"ab".repeat(32)).unwrap();
    let entry = cache::decode(read("tests/fixtures/v1/cache-value.txt").as_bytes(), &key, &Seal::default()).unwrap();
    assert_eq!(entry.payload.bytes, b"{\"hello\":\"Ada\"}\n");
    assert_eq!((entry.job.name.as_str(), entry.payload.content_type.as_str()), ("jq-echo-x", "application/json"));
    assert_eq!(cache::result_key(&key), format!("jobquay:result:{}", "ab".repeat(32)));
}

#[test]
fn the_queues_have_their_names() {
    assert_eq!(QUEUES, ["jobquay.requests", "jobquay.dead", "jobquay.undeliverable"]);
}
