//! The requests of tests/fixtures/requests: what each comes to, and that the schema takes the same ones.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::*;
use crate::config::Layered;
use crate::domain::catalog::Catalog;
use crate::domain::manifest::Plan;
use crate::domain::rejection::Rejection;
use crate::domain::request::document::CloudEventDocument;
use crate::domain::request::{Arrival, Asked, MessageId, parse};
use crate::domain::waiter::Waiter;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accepted {
    pub name: String,
    pub body: String,
    message_id: Option<String>,
    pub content_type: Option<String>,
    pub same_as: Option<String>,
    cancels: Option<String>,
    manifest: Option<String>,
    #[serde(default)]
    pub key: String,
    #[serde(default)]
    pub job: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rejected {
    name: String,
    #[serde(default)]
    body: String,
    bytes: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    code: String,
    pointer: Option<String>,
    beyond_schema: Option<String>,
}

#[derive(Deserialize)]
struct Cases<T> {
    request: Vec<T>,
}

fn cases<T: DeserializeOwned>(path: &str) -> Vec<T> {
    toml::from_str::<Cases<T>>(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}")).request
}

pub(super) fn accepted(dir: &str) -> Vec<Accepted> {
    cases(&format!("{dir}/accepted.toml"))
}

pub(super) fn arrival(body: &[u8]) -> Arrival {
    Arrival {
        reply_to: Some("replies".into()),
        correlation_id: Some("c-1".into()),
        ..Arrival::bare(body.to_vec(), "minted".into(), Timestamp::UNIX_EPOCH)
    }
}

impl Accepted {
    fn arrival(&self) -> Arrival {
        let arrival = arrival(self.body.as_bytes());
        let id = self.message_id.clone().map_or(arrival.id.clone(), MessageId::Given);
        Arrival { id, content_type: self.content_type.clone(), ..arrival }
    }
}

/// With the templates of `dir`, and all settings at their defaults.
pub(super) fn catalog(dir: &str) -> Catalog {
    let set = format!("templates.dir={}", root().join(dir).join("templates").display());
    let config = Layered::load(None, [], &[set]).unwrap().config().unwrap();
    let (catalog, problems) = crate::files::load_catalog(&config, &config.kubernetes.configured_namespaces());
    assert!(problems.is_empty(), "{}", problems[0]);
    catalog
}

/// What a message comes to: the plan of a Job, or the id of a request that is cancelled.
enum Comes {
    To(Box<Plan>, Box<Waiter>),
    Cancels(String),
}

fn handle(catalog: &Catalog, arrival: &Arrival) -> Result<Comes, Rejection> {
    match parse(arrival, 1 << 18).map_err(|unparsed| unparsed.rejection)? {
        Asked::Cancel(cancel) => Ok(Comes::Cancels(cancel.request_id)),
        Asked::Run(request) => Ok(Comes::To(Box::new(catalog.plan(&request)?), Box::new(request.waiter))),
    }
}

/// The plan of each request in `dir` that runs something, having the key and the name that are written there.
pub(super) fn check_keys(dir: &str) -> Vec<(Accepted, Plan, Waiter)> {
    let catalog = catalog(dir);
    let mut plans = Vec::new();
    for case in accepted(dir) {
        match handle(&catalog, &case.arrival()).unwrap_or_else(|rejection| panic!("{}: {rejection}", case.name)) {
            Comes::Cancels(id) => assert_eq!(Some(id), case.cancels, "{}", case.name),
            Comes::To(plan, waiter) => {
                assert_eq!((plan.key.hex(), plan.name()), (case.key.clone(), case.job.clone()), "{}", case.name);
                plans.push((case, *plan, *waiter));
            }
        }
    }
    plans
}

#[test]
fn each_accepted_request_has_its_key_and_its_name() {
    let plans = check_keys("tests/fixtures/requests");
    assert!(plans.len() >= 40);
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    for (case, ..) in &plans {
        if let Some(other) = &case.same_as {
            assert_eq!(plans.iter().find(|(case, ..)| case.name == *other).unwrap().0.key, case.key, "{}", case.name);
        } else if !case.name.contains("bypass") && case.job != plans[0].0.job {
            let earlier = first.insert(&case.key, &case.name);
            assert!(earlier.is_none(), "{} has the key of {earlier:?}", case.name);
        }
    }
}

#[test]
fn the_golden_manifests_are_those_that_are_created() {
    let mut count = 0;
    for (case, plan, waiter) in check_keys("tests/fixtures/requests") {
        let Some(file) = &case.manifest else { continue };
        let job = plan.manifest(&Waiter { created_job: true, ..waiter }).unwrap();
        pin(&format!("tests/fixtures/manifests/{file}"), &(serde_json::to_string_pretty(&job).unwrap() + "\n"));
        count += 1;
    }
    assert_eq!(count, files("tests/fixtures/manifests", ".json").len(), "a manifest that no request makes");
}

#[test]
fn each_rejected_request_is_refused_with_its_code_and_place() {
    let catalog = catalog("tests/fixtures/requests");
    let (plain, wrapped) = (validator(&request()), validator(&cloud_event()));
    let rejected: Vec<Rejected> = cases("tests/fixtures/requests/rejected.toml");
    assert!(rejected.len() >= 60);
    for case in rejected {
        let bytes = case.bytes.as_deref().map_or_else(|| case.body.clone().into_bytes(), hex);
        let message = Arrival {
            content_type: case.content_type.clone(),
            content_encoding: case.content_encoding.clone(),
            ..arrival(&bytes)
        };
        let Err(rejection) = handle(&catalog, &message) else { panic!("{}: is accepted", case.name) };
        let found = (rejection.code.as_str(), rejection.pointer.as_deref());
        assert_eq!(found, (case.code.as_str(), case.pointer.as_deref()), "{}: {}", case.name, rejection.message);
        let of_cloud_event = case.content_type.as_deref() == Some("application/cloudevents+json");
        let schema = if of_cloud_event { &wrapped } else { &plain };
        let fits = serde_json::from_slice(&bytes).is_ok_and(|value: Value| schema.is_valid(&value));
        match case.beyond_schema.as_deref() {
            None => assert!(!fits, "{}: the schema takes it", case.name),
            // Not JSON is nothing that a schema could take.
            Some("not JSON") => assert!(!fits, "{}: is JSON", case.name),
            Some(rule) => {
                assert!(BEYOND_SCHEMA.contains(&rule), "{}: `{rule}` is not one of the known rules", case.name);
                assert!(fits, "{}: the schema refuses it, so it is not beyond it", case.name);
            }
        }
    }
}

/// The rules that JSON Schema has no words for: all of the difference between the parser and the schema.
const BEYOND_SCHEMA: [&str; 4] =
    ["duplicate keys", "numbers out of range", "properties of the message", "templates and their parameters"];

#[test]
fn each_accepted_request_fits_the_schema() {
    let (plain, wrapped) = (request(), cloud_event());
    for case in accepted("tests/fixtures/requests") {
        let schema = if case.content_type.is_some() { &wrapped } else { &plain };
        assert_eq!(faults(schema, &serde_json::from_str(&case.body).unwrap()), [""; 0], "{}", case.name);
    }
}

fn cloud_event() -> Value {
    document::<CloudEventDocument>("cloud-event", SchemaSettings::draft2020_12().for_deserialize())
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
