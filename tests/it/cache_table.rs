//! What a request comes to, by what it says about the cache and what is there. `docs/cache.md` has the
//! same table, and a test compares the two.

use std::fmt;
use std::time::Duration;

use jobquay::cache::{decode, result_key};
use jobquay::domain::key::RequestKey;
use redis::AsyncCommands as _;
use serde_json::{Value, json};

use crate::cache_control::redis;
use crate::cache_values::key_of;
use crate::support::stack::root;
use crate::support::{Event, Producer, Recorder, Request, World, eventually};

/// The label by which the Jobs of one row are told apart.
const ROW: &str = "row";

/// What is there when the request comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Situation {
    Empty,
    Fresh,
    /// Fresh, and the run fails.
    FreshFails,
    /// Of a request with other parameters.
    Other,
    /// Of the same request, under `cache: never`.
    Unshared,
    Older,
    Ended,
    EndedFails,
    Live,
    Standing,
}

/// What is kept under the key afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Nothing,
    Old,
    New(&'static str),
}

/// Situation, request, answer, the Jobs that the request made, what is kept.
type Row = (Situation, &'static str, &'static str, usize, Kept);

use Kept::{New, Nothing, Old};
use Situation::{Empty, Ended, EndedFails, Fresh, FreshFails, Live, Older, Other, Standing, Unshared};

#[rustfmt::skip]
const ROWS: &[Row] = &[
    (Empty, r#"{"mode": "use"}"#, "succeeded, executed", 1, New("1h")),
    (Empty, r#"{"mode": "refresh"}"#, "succeeded, executed", 1, New("1h")),
    (Empty, r#"{"mode": "bypass"}"#, "succeeded, executed", 1, New("1h")),
    (Empty, r#"{"mode": "only"}"#, "rejected, cache.miss", 0, Nothing),
    (Empty, r#"{"no_store": true}"#, "succeeded, executed", 1, Nothing),
    (Empty, r#"{"ttl": "10m"}"#, "succeeded, executed", 1, New("10m")),
    (Empty, r#"{"ttl": "2h"}"#, "succeeded, executed", 1, New("1h")),
    (Empty, r#"{"ttl": "0s"}"#, "succeeded, executed", 1, Nothing),
    (Fresh, r#"{"mode": "use"}"#, "succeeded, cache", 0, Old),
    (Fresh, r#"{"mode": "refresh"}"#, "succeeded, executed", 1, New("1h")),
    (Fresh, r#"{"mode": "bypass"}"#, "succeeded, executed", 1, New("1h")),
    (Fresh, r#"{"mode": "only"}"#, "succeeded, cache", 0, Old),
    (Fresh, r#"{"max_age": "1h"}"#, "succeeded, cache", 0, Old),
    (Fresh, r#"{"ttl": "1s", "no_store": true}"#, "succeeded, cache", 0, Old),
    (Fresh, r#"{"mode": "refresh", "no_store": true}"#, "succeeded, executed", 1, Old),
    (Fresh, r#"{"mode": "bypass", "no_store": true}"#, "succeeded, executed", 1, Old),
    (Fresh, r#"{"salt": "2026-11"}"#, "succeeded, executed", 1, New("1h")),
    (Fresh, r#"{}, "on_duplicate": "reject""#, "succeeded, cache", 0, Old),
    (FreshFails, r#"{"mode": "refresh"}"#, "failed, executed", 1, Old),
    (FreshFails, r#"{"mode": "refresh", "stale_if_error": "1h"}"#, "succeeded, cache", 1, Old),
    (FreshFails, r#"{"mode": "bypass", "stale_if_error": "1h"}"#, "succeeded, cache", 1, Old),
    (Other, r#"{"mode": "use"}"#, "succeeded, executed", 1, New("1h")),
    (Other, r#"{"mode": "only"}"#, "rejected, cache.miss", 0, Nothing),
    (Unshared, r#"{"mode": "use"}"#, "succeeded, executed", 1, New("1d")),
    (Unshared, r#"{"ttl": "10m", "no_store": true}"#, "succeeded, executed", 1, New("1d")),
    (Unshared, r#"{"mode": "only"}"#, "rejected, cache.miss", 0, Nothing),
    (Older, r#"{"mode": "use", "max_age": "1s"}"#, "succeeded, executed", 1, New("1h")),
    (Older, r#"{"mode": "refresh", "max_age": "1s"}"#, "succeeded, executed", 1, New("1h")),
    (Older, r#"{"mode": "bypass", "max_age": "1s"}"#, "succeeded, executed", 1, New("1h")),
    (Older, r#"{"mode": "only", "max_age": "1s"}"#, "rejected, cache.miss", 0, Old),
    (Older, r#"{"max_age": "1s", "no_store": true}"#, "succeeded, executed", 1, Old),
    (Ended, r#"{"mode": "use"}"#, "succeeded, executed", 1, New("1h")),
    (Ended, r#"{"mode": "use", "stale_if_error": "1h"}"#, "succeeded, executed", 1, New("1h")),
    (Ended, r#"{"mode": "only"}"#, "rejected, cache.miss", 0, Old),
    (EndedFails, r#"{"mode": "use"}"#, "failed, executed", 1, Old),
    (EndedFails, r#"{"mode": "use", "stale_if_error": "1h"}"#, "succeeded, cache", 1, Old),
    (EndedFails, r#"{"mode": "refresh", "stale_if_error": "1h"}"#, "succeeded, cache", 1, Old),
    (EndedFails, r#"{"mode": "bypass", "stale_if_error": "1h"}"#, "succeeded, cache", 1, Old),
    (EndedFails, r#"{"mode": "only", "stale_if_error": "1h"}"#, "rejected, cache.miss", 0, Old),
    (Live, r#"{"mode": "use"}"#, "succeeded, coalesced", 0, Old),
    (Live, r#"{"mode": "refresh"}"#, "succeeded, coalesced", 0, Old),
    (Live, r#"{"mode": "bypass", "no_store": true}"#, "succeeded, executed", 1, Old),
    (Live, r#"{"mode": "only"}"#, "rejected, cache.miss", 0, Old),
    (Live, r#"{}, "on_duplicate": "reject""#, "rejected, duplicate", 0, Old),
    (Standing, r#"{"mode": "use"}"#, "succeeded, executed", 1, New("1h")),
    (Standing, r#"{"mode": "refresh"}"#, "succeeded, executed", 1, New("1h")),
    (Standing, r#"{"mode": "bypass"}"#, "succeeded, executed", 1, New("1h")),
    (Standing, r#"{"mode": "only"}"#, "rejected, cache.miss", 0, Nothing),
    (Standing, r#"{}, "on_duplicate": "reject""#, "succeeded, executed", 1, New("1h")),
];

impl fmt::Display for Situation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Empty => "nothing",
            Fresh => "a result",
            FreshFails => "a result; the run fails",
            Other => "a result of other parameters",
            Unshared => "a result of an equal request; the template says `cache: never`",
            Older => "a result, older than `max_age`",
            Ended => "a result that has ended",
            EndedFails => "a result that has ended; the run fails",
            Live => "a Job of the key that runs",
            Standing => "a Job of the key that has ended, and kept nothing",
        })
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Nothing => f.write_str("nothing"),
            Old => f.write_str("the earlier result"),
            New(ttl) => write!(f, "its own, for {ttl}"),
        }
    }
}

impl Situation {
    /// What the request before says about the cache; `None` where there is none.
    fn before(self) -> Option<Value> {
        match self {
            Empty => None,
            Ended | EndedFails => Some(json!({"ttl": "1s"})),
            Standing => Some(json!({"no_store": true})),
            _ => Some(json!({})),
        }
    }
}

fn row_id(index: usize) -> String {
    format!("row-{index}")
}

/// A request of the row; the script is no part of its key, but for a template whose results nobody shares.
fn request(id: &str, name: &str, situation: Situation, script: &str, fields: &Value) -> Request {
    let mut body = match situation {
        Unshared => json!({"template": "unshared", "params": {"script": script, "tag": name}}),
        _ => json!({"template": "stale", "params": {"script": script, "name": name}}),
    };
    body["labels"] = json!({ROW: id});
    body.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    Request::json(&body).id(id)
}

fn before(index: usize, situation: Situation) -> Option<Request> {
    let script = if situation == Live { "sleep 10; echo first" } else { "echo first" };
    let fields = json!({"cache": situation.before()?});
    Some(request(&format!("{}-before", row_id(index)), &row_id(index), situation, script, &fields))
}

fn asked(index: usize, (situation, cache, ..): &Row) -> Request {
    let script = match situation {
        FreshFails | EndedFails => "exit 3",
        Unshared => "echo first",
        _ => "echo second",
    };
    let fields = serde_json::from_str(&format!("{{\"cache\": {cache}}}")).expect("it is written as JSON");
    let name = format!("{}{}", row_id(index), if *situation == Other { "-other" } else { "" });
    request(&row_id(index), &name, *situation, script, &fields)
}

fn rows(wanted: impl Fn(Situation) -> bool) -> impl Iterator<Item = (usize, &'static Row)> {
    ROWS.iter().enumerate().filter(move |(_, row)| wanted(row.0))
}

/// Sends what comes before the requests, and the requests; all answers.
async fn ask_all(world: &World, recorder: &Recorder, producer: &mut Producer) -> Vec<Event> {
    let earlier = rows(|situation| situation != Live).filter_map(|(index, row)| before(index, row.0));
    let earlier: Vec<_> = earlier.collect();
    let count = earlier.len();
    producer.send_many(earlier.into_iter()).await;
    let mut events = producer.events(count).await;
    world.settled().await;
    // What is to be older than a second is, and what was to end after one has.
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let live: Vec<_> = rows(|situation| situation == Live).collect();
    producer.send_many(live.iter().filter_map(|(index, row)| before(*index, row.0))).await;
    eventually("the Jobs that are to run", async || {
        let runs = |(index, _): &(usize, &Row)| recorder.jobs_with(ROW, &format!("{}-before", row_id(*index))) == 1;
        live.iter().all(runs).then_some(())
    })
    .await;
    producer.send_many(live.iter().map(|(index, row)| asked(*index, row))).await;
    producer.send_many(rows(|situation| situation != Live).map(|(index, row)| asked(index, row))).await;
    events.extend(producer.events(ROWS.len() + live.len()).await);
    world.settled().await;
    events
}

/// What an event comes to, as the table says it.
fn answer(event: &Event) -> String {
    let served_by = event.data().get("served_by").or(event.data()["error"].get("code"));
    format!("{}, {}", event.state(), served_by.and_then(Value::as_str).unwrap_or_default())
}

/// What stands in Redis under a key: the uid of its Job, and for how long it is kept.
async fn stored(key: &RequestKey) -> Option<(String, Duration)> {
    let value: Option<Vec<u8>> = redis().await.get(result_key(key)).await.expect("GET");
    let entry = decode(&value?, key, &jobquay::cache::Seal::default()).expect("a value that verifies");
    let ttl = entry.expires_at.duration_since(entry.created_at);
    Some((entry.job.uid, Duration::try_from(ttl).expect("it ends after it begins")))
}

async fn kept(event: &Event, before: Option<&Event>, producer: &mut Producer, index: usize, row: &Row) -> Kept {
    let Some(key) = event.data().get("key").map(|_| key_of(event)) else {
        if let (Some(before), false) = (before, matches!(row.0, Other | Unshared)) {
            return whose(stored(&key_of(before)).await, event, Some(before), row);
        }
        // Nobody has said its key, but whoever asks again is told whether there is a result.
        let fields = json!({"cache": {"mode": "only"}});
        let probe = request(&format!("{}-after", row_id(index)), &row_id(index), row.0, "echo first", &fields);
        let probe = if matches!(row.0, Other | Unshared) { asked(index, row) } else { probe };
        assert_eq!(answer(&producer.ask(probe).await), "rejected, cache.miss", "{row:?}");
        return Nothing;
    };
    whose(stored(&key).await, event, before, row)
}

fn whose(stored: Option<(String, Duration)>, event: &Event, before: Option<&Event>, row: &Row) -> Kept {
    let uid = |event: &Event| event.data()["job"]["uid"].as_str().map(str::to_owned);
    match (stored, row.4) {
        (None, _) => Nothing,
        (Some((kept, _)), _) if before.is_some_and(|before| uid(before).as_ref() == Some(&kept)) => Old,
        (Some((kept, ttl)), New(expected)) if uid(event) == Some(kept.clone()) => {
            assert_eq!(ttl, jobquay::domain::fields::parse_duration(expected).expect("a time"), "{row:?}");
            New(expected)
        }
        other => panic!("{row:?}: somebody else's result is kept: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_comes_to_what_the_table_says() {
    let world = World::new("cache-table").await;
    let recorder = world.recorder();
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let events = ask_all(&world, &recorder, &mut producer).await;
    let named = |name: &str| events.iter().find(|event| event.request_id() == name);
    let mut wrong = Vec::new();
    for (index, row) in ROWS.iter().enumerate() {
        let (_, _, said, jobs, keeps) = *row;
        let event = named(&row_id(index)).expect("one answer each");
        let before = named(&format!("{}-before", row_id(index)));
        let found = (
            answer(event),
            recorder.jobs_with(ROW, &row_id(index)),
            kept(event, before, &mut producer, index, row).await,
        );
        if found != (said.to_owned(), jobs, keeps) {
            wrong.push(format!("{row:?}: {found:?}"));
        }
        let text = match said {
            "succeeded, executed" if row.0 != Unshared => json!("second\n"),
            said if said.starts_with("succeeded") => json!("first\n"),
            _ => Value::Null,
        };
        if event.result("text") != &text {
            wrong.push(format!("{row:?}: {}", event.data()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_document_has_the_rows_that_are_tested() {
    let line = |(situation, cache, answer, jobs, kept): &Row| {
        format!("| {situation} | `\"cache\": {cache}` | {answer} | {jobs} | {kept} |")
    };
    let tested: Vec<_> = ROWS.iter().map(line).collect();
    let document = std::fs::read_to_string(root().join("docs/cache.md")).unwrap_or_default();
    let written: Vec<_> = document.lines().filter(|line| line.contains("`\"cache\": ")).collect();
    assert!(written == tested, "the table of docs/cache.md must be\n{}", tested.join("\n"));
}
