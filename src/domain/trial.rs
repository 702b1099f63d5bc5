//! A Job to try a template with: what the API server would be asked to create, for parameters that fit.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use serde_json::Value;

use super::catalog::Catalog;
use super::earlier::Earlier;
use super::rejection::Rejection;
use super::request::{CacheControl, OnDuplicate, Request, Work};
use super::template::Template;
use super::waiter::Waiter;

/// A Job and how much its refusal means.
#[derive(Debug)]
pub struct Trial {
    pub job: Job,
    /// Some parameters were made up: the Job may be refused for them and not for the template.
    pub guessed: bool,
}

/// `None` where no parameters can be guessed.
pub fn trial(catalog: &Catalog, template: &Template) -> Option<Result<Trial, Rejection>> {
    let sample = template.sample()?;
    let Value::Object(params) = sample.params else { return None };
    let waiter = Waiter { created_job: true, ..Waiter::new("check", Timestamp::UNIX_EPOCH) };
    let request = Request {
        waiter: waiter.clone(),
        producer: None,
        redelivered: false,
        parked: false,
        earlier: Earlier::None,
        undecided: None,
        unanswered: None,
        work: Work::Template { name: template.name.clone(), params: params.clone() },
        cache: CacheControl::default(),
        on_duplicate: OnDuplicate::default(),
        deadline: None,
        labels: Vec::new(),
    };
    let job = catalog.plan_with(template, params, &request).and_then(|plan| plan.manifest(&waiter));
    Some(job.map(|job| Trial { job, guessed: sample.guessed }))
}
