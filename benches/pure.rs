//! The pure parts of a hit and of a miss, alone and over and over, for a tool that counts instructions: these do not depend on how busy the
//! machine is.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use jobquay::cache::{Entry, Seal, decode, encode};
use jobquay::config::Layered;
use jobquay::domain::event::{Event, JobInfo, ResultView, ServedBy, Timings, Verdict};
use jobquay::domain::key::{KeyParts, RequestKey};
use jobquay::domain::manifest::Plan;
use jobquay::domain::namespaces::Namespaces;
use jobquay::domain::outcome::Payload;
use jobquay::domain::request::{self, Arrival, MessageId, Request};
use jobquay::domain::rules::Rules;
use jobquay::files;
use serde_json::Value;

use crate::cached;
use crate::stack::root;

/// A step of a hit, or of a miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Step {
    /// The message's body and properties.
    Parse,
    /// Who may ask for what, the parameters against their schema, and the key.
    Plan,
    /// The value out of the cache.
    Envelope,
    /// The event.
    Event,
    /// The key alone, which is a part of the plan.
    Key,
    /// The Job, which a miss creates.
    Render,
    /// Nothing, to be taken off the others.
    Nothing,
}

impl Step {
    /// Those that a hit takes, each once.
    pub(crate) const OF_A_HIT: [Self; 4] = [Self::Parse, Self::Plan, Self::Envelope, Self::Event];
}

/// Takes the step so often, and nothing else but to get ready for it.
pub(crate) fn run(step: Step, times: usize) -> Result<()> {
    let ready = Ready::new()?;
    for _ in 0..times {
        match step {
            Step::Parse => drop(black_box(parse(&ready.arrival)?)),
            Step::Plan => drop(black_box(plan(&ready.rules, &ready.request)?)),
            Step::Envelope => {
                let entry = decode(black_box(&ready.value), &ready.plan.key, &ready.seal).ok();
                drop(black_box(entry.context("the value verifies")?));
            }
            Step::Event => drop(black_box(ready.event())),
            Step::Key => {
                black_box(ready.key());
            }
            Step::Render => drop(black_box(ready.manifest()?)),
            Step::Nothing => {}
        }
    }
    Ok(())
}

struct Ready {
    arrival: Arrival,
    request: Request,
    /// Its parameters.
    input: Value,
    rules: Rules,
    plan: Plan,
    seal: Seal,
    entry: Entry,
    value: Vec<u8>,
}

impl Ready {
    fn new() -> Result<Self> {
        let arrival = arrival();
        let request = parse(&arrival)?;
        let input = serde_json::from_slice::<Value>(&arrival.body)?["params"].take();
        let rules = rules()?;
        let plan = plan(&rules, &request)?;
        let now = Timestamp::now();
        let entry = Entry {
            key: plan.key,
            template: None,
            job: JobInfo {
                namespace: "work".to_owned(),
                name: plan.name(),
                uid: "0b0f6f0e-8f8c-4f49-8b1e-1a2b3c4d5e6f".to_owned(),
                attempts: 1,
            },
            created_at: now,
            expires_at: now + Duration::from_secs(3600),
            payload: Payload::new(format!("{{\"answer\": \"{}\"}}", "x".repeat(100)).into_bytes()),
        };
        let seal = Seal::default();
        let value = encode(&entry, &seal);
        Ok(Self { arrival, request, input, rules, plan, seal, entry, value })
    }

    fn key(&self) -> RequestKey {
        let digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let input = black_box(&self.input);
        RequestKey::of(&KeyParts { tenant: "default", template: "bench", digest, input, salt: None, request_id: None })
    }

    fn manifest(&self) -> Result<Vec<u8>> {
        let job = self.plan.manifest(black_box(&self.request.waiter)).ok().context("the Job is rendered")?;
        Ok(serde_json::to_vec(&job)?)
    }

    fn event(&self) -> Vec<u8> {
        let view = ResultView {
            payload: &self.entry.payload,
            age_seconds: 7,
            expires_at: Some(self.entry.expires_at),
            reference: None,
        };
        let event = Event {
            waiter: &self.request.waiter,
            verdict: Verdict::Succeeded { served_by: ServedBy::Cache, result: Some(view) },
            key: Some(&self.plan.key),
            template: Some(&self.plan.template),
            job: Some(&self.entry.job),
            timings: Timings::default(),
        };
        event.encode("//jobquay/bench", self.entry.created_at).body
    }
}

fn arrival() -> Arrival {
    Arrival {
        content_type: Some("application/json".to_owned()),
        id: MessageId::Given("bench-7".to_owned()),
        reply_to: Some("bench.replies".to_owned()),
        correlation_id: Some("bench-7".to_owned()),
        ..Arrival::bare(cached::request("bench", 7, 500).body, String::new(), Timestamp::now())
    }
}

fn parse(arrival: &Arrival) -> Result<Request> {
    let asked = request::parse(arrival, 256 << 10).ok().context("the request is read")?;
    match asked {
        request::Asked::Run(request) => Ok(*request),
        request::Asked::Cancel(_) => anyhow::bail!("the request is no cancellation"),
    }
}

fn rules() -> Result<Rules> {
    let templates = root().join("benches/templates");
    let flag = format!("templates.dir={}", templates.display());
    let config = Layered::load(None, [], &[flag])?.config()?;
    let namespaces = Namespaces { own: "work".to_owned(), further: Vec::new() };
    let (catalog, problems) = files::load_catalog(&config, &namespaces);
    anyhow::ensure!(problems.is_empty(), "{problems:?}");
    Ok(Rules { catalog, policies: files::load_policies(&config)?.into() })
}

fn plan(rules: &Rules, request: &Request) -> Result<Plan> {
    rules.plan(request).ok().context("the request is planned")
}
