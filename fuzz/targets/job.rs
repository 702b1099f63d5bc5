//! A Job on the cluster, whose annotations, labels and status anyone with rights there can edit: reading
//! it is total, and whoever is read off it can be told.
//!
//! Line by line: `@name=value` an annotation below `jobquay.dev/`, `#name=value` a label, `!` a finalizer,
//! `?type` a condition that holds, `~` being deleted, `+` and `-` counts of pods, `*count` an overflow.
#![no_main]

use jiff::Timestamp;
use jobquay::domain::earlier::Earlier;
use jobquay::domain::event::{Event, ServedBy, Timings, Verdict};
use jobquay::domain::job::{self, Ending, Load, Standing};
use jobquay::domain::key::RequestKey;
use jobquay::domain::manifest;
use jobquay::domain::outcome::{Failure, PodReport, log_tail};
use jobquay::domain::waiter::Waiter;
use k8s_openapi::api::batch::v1::Job;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

fn read(text: &str) -> Option<Job> {
    let mut job = json!({"metadata": {"uid": "u", "annotations": {}, "labels": {}, "finalizers": []}, "status": {"conditions": []}});
    for (index, line) in text.lines().enumerate() {
        let Some((kind, rest)) = line.split_at_checked(1) else { continue };
        let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
        let list = |job: &mut Value, pointer: &str, item: Value| {
            job.pointer_mut(pointer).and_then(Value::as_array_mut).expect("a list").push(item);
        };
        match kind {
            "@" => job["metadata"]["annotations"][format!("jobquay.dev/{name}")] = value.into(),
            "#" => job["metadata"]["labels"][name] = value.into(),
            "!" => list(&mut job, "/metadata/finalizers", rest.into()),
            "?" => list(&mut job, "/status/conditions", json!({"type": name, "status": "True", "message": value})),
            "~" => job["metadata"]["deletionTimestamp"] = "1970-01-01T00:00:00Z".into(),
            "+" => job["status"]["succeeded"] = rest.parse::<i32>().ok()?.into(),
            "-" => job["status"]["failed"] = rest.parse::<i32>().ok()?.into(),
            "*" => job["metadata"]["annotations"][format!("jobquay.dev/overflow.{index:08x}")] = rest.into(),
            _ => {}
        }
    }
    serde_json::from_value(job).ok()
}

fn tell(waiter: &Waiter, text: &str) {
    let written = serde_json::to_string(waiter).expect("a waiter has a JSON form");
    assert_eq!(serde_json::from_str::<Waiter>(&written).expect("it reads back"), *waiter);
    let failed = Ending::Failed { reason: "R".into(), message: text.into() };
    let pod = PodReport { exit_code: Some(1), reason: None, log_tail: Some(log_tail(text.as_bytes())) };
    let failure = Failure::of_job(&failed, pod);
    let event = Event {
        waiter,
        verdict: Verdict::Failed { served_by: ServedBy::Executed, failure: &failure },
        key: None,
        template: Some("t"),
        job: None,
        timings: Timings::default(),
    };
    let encoded: Value = serde_json::from_slice(&event.encode("//jobquay/fuzz", Timestamp::UNIX_EPOCH).body).expect("JSON");
    assert_eq!(encoded["subject"], waiter.request_id);
    assert_eq!(encoded["id"], event.id());
    assert_eq!(encoded["data"]["error"]["message"], text);
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(job) = read(text) else { return };
    let key = RequestKey::from_hex(&"ab".repeat(32)).expect("64 digits");
    let (waiters, unreadable) = job::waiters(&job);
    let load = job::load(&job);
    assert_eq!(waiters.len() + unreadable, load.waiters);
    assert!(load.room() <= Load::FULL.waiters);
    let _ = (job::overflowed(&job), job::attempts(&job), job::finished_at(&job), job::key(&job), job::template(&job));
    let _ = (job::result_plan(&job), job::cache_plan(&job));
    let owed = job::finalizer_index(&job);
    for waiter in &waiters {
        tell(waiter, text);
        let stands =
            job.metadata.annotations.iter().flatten().any(|(name, _)| *name == manifest::waiter_annotation(waiter));
        match job::standing(&job, &key, waiter, Earlier::AnyTime) {
            Standing::Joinable { finalizer_index, already_waiting, owed: owed_here, ended, .. } => {
                assert_eq!((Some(finalizer_index), already_waiting, owed_here), (owed, stands, stands));
                assert_eq!(ended, job::ending(&job).is_some());
            }
            Standing::Answered => assert!(stands && owed.is_none()),
            Standing::Cancelled { .. } => assert!(stands),
            Standing::Foreign { why } => assert!(!why.is_empty()),
            Standing::Terminating => assert!(job.metadata.deletion_timestamp.is_some()),
            Standing::Ended { .. } => assert!(owed.is_none()),
        }
    }
});
