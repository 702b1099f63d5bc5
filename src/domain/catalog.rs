//! What can be run: a request in, the plan of its Job out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::explain::Ingredients;
use super::fields::nearest;
use super::key::{KeyParts, RequestKey};
use super::manifest::{self, CachePlan, Draft, InlineDefaults, Plan};
use super::namespaces::Namespaces;
use super::policy::choice::{Choice, Kind};
use super::rejection::{Code, Rejection};
use super::request::{CacheMode, InlineJob, Request, Work};
use super::template::{AnswerAt, DEFAULT_LANE, INLINE, Limits, ResultPlan, ResultSource, Scope, Template};

/// The templates, and the rules for what they leave open.
#[derive(Debug, Clone)]
pub struct Catalog {
    pub templates: BTreeMap<String, Arc<Template>>,
    pub namespaces: Namespaces,
    pub tenant: String,
    pub inline: InlineDefaults,
    pub limits: Limits,
    pub result_max: u64,
    /// How long a result is kept that nobody set a ttl for.
    pub ttl: Duration,
    /// How long an unshared result is kept.
    pub keep: Duration,
}

impl Catalog {
    /// Renders the Job of a request and makes its key.
    pub fn plan(&self, request: &Request) -> Result<Plan, Rejection> {
        let plan = match &request.work {
            Work::Template { name, params } => self.plan_template(name, params.clone(), request)?,
            Work::Inline(job) => self.plan_inline(job, request),
        };
        let lock = match request.cache.mode {
            CacheMode::Bypass => plan.key.alone(&request.waiter.request_id),
            CacheMode::Use | CacheMode::Refresh | CacheMode::Only => plan.key,
        };
        Ok(Plan { lock, labels: request.labels.clone(), ..plan })
    }

    /// Whether equal requests for this have one key; else each has its own.
    pub fn shares(&self, work: &Work) -> bool {
        match work {
            Work::Template { name, .. } => self.templates.get(name).is_some_and(|template| !template.cache.never),
            Work::Inline(_) => true,
        }
    }

    /// What the key of a request is made of, to be laid beside another's.
    pub fn ingredients(&self, request: &Request) -> Result<Ingredients, Rejection> {
        let salt = request.cache.salt.clone();
        let tenant = self.tenant.clone();
        Ok(match &request.work {
            Work::Template { name, params } => {
                let template = self.templates.get(name).ok_or_else(|| self.unknown(name))?;
                let input = template.accept(params.clone())?;
                Ingredients {
                    tenant,
                    template: template.name.clone(),
                    digest: template.digest.clone(),
                    pointer: "/params",
                    deciding: template.deciding(&input).into_owned(),
                    input,
                    salt,
                    request_id: template.cache.never.then(|| request.waiter.request_id.clone()),
                }
            }
            Work::Inline(job) => {
                let input = job.normalised();
                let (template, digest) = (INLINE.to_owned(), String::new());
                Ingredients {
                    tenant,
                    template,
                    digest,
                    pointer: "/job",
                    deciding: input.clone(),
                    input,
                    salt,
                    request_id: None,
                }
            }
        })
    }

    fn plan_template(&self, name: &str, params: Map<String, Value>, request: &Request) -> Result<Plan, Rejection> {
        let template = self.templates.get(name).ok_or_else(|| self.unknown(name))?;
        self.plan_with(template, params, request)
    }

    /// As [`Self::plan`], with a template that need not be in the catalog.
    pub fn plan_with(
        &self,
        template: &Template,
        params: Map<String, Value>,
        request: &Request,
    ) -> Result<Plan, Rejection> {
        let name = template.name.as_str();
        let params = template.accept(params)?;
        let request_id = &request.waiter.request_id;
        let key = RequestKey::of(&KeyParts {
            tenant: &self.tenant,
            template: name,
            digest: &template.digest,
            input: &template.deciding(&params),
            salt: request.cache.salt.as_deref(),
            request_id: template.cache.never.then_some(request_id.as_str()),
        });
        let body = &template.body;
        let (job, choices, namespace) = if body.takes_texts_only(&params) {
            let (body, request_id) = (Arc::clone(body), request_id.clone());
            let namespace = self.namespace(body.namespace(), &[])?;
            (Draft::Unrendered { body, params, request_id }, Vec::new(), namespace)
        } else {
            let job = body.render(&Scope { params: &params, request_id, key: &key.to_string() })?;
            let choices = body.choices(&job);
            if let Some(choice) = template.chosen_beside_the_key(&choices) {
                let why = "is not part of the key (`cache.ignore`), and decides what the Job may see";
                return Err(Rejection::at(Code::PolicyDenied, &choice.pointer, why));
            }
            let named = job.pointer("/metadata/namespace").and_then(Value::as_str);
            let namespace = self.namespace(named, &choices)?;
            (Draft::Rendered(job), choices, namespace)
        };
        // The memory of a request whose result is not shared is not the request's to shorten.
        let cache = match template.cache.never {
            true => CachePlan { store: true, ttl_seconds: self.keep.as_secs() },
            false => self.cache_plan(request, template.cache.ttl),
        };
        Ok(Plan {
            key,
            lock: key,
            template: name.to_owned(),
            shown: name.to_owned(),
            namespace,
            choices,
            job,
            result: template.result,
            answer: template.answer,
            cache,
            limits: template.limits,
            lane: template.lane.clone(),
            in_flight: template.in_flight,
            producer_in_flight: None,
            rate: None,
            labels: Vec::new(),
            priority_class: None,
        })
    }

    fn plan_inline(&self, job: &InlineJob, request: &Request) -> Plan {
        let key = RequestKey::of(&KeyParts {
            tenant: &self.tenant,
            template: INLINE,
            digest: "",
            input: &job.normalised(),
            salt: request.cache.salt.as_deref(),
            request_id: None,
        });
        Plan {
            key,
            lock: key,
            template: INLINE.to_owned(),
            shown: job.name.clone(),
            job: Draft::Rendered(manifest::inline(job, &self.inline)),
            result: ResultPlan { source: ResultSource::Auto, max: self.result_max },
            answer: AnswerAt::Job,
            cache: self.cache_plan(request, None),
            limits: self.limits,
            lane: DEFAULT_LANE.to_owned(),
            in_flight: None,
            producer_in_flight: None,
            rate: None,
            labels: Vec::new(),
            namespace: self.namespaces.own.clone(),
            choices: Vec::new(),
            priority_class: None,
        }
    }

    /// Where a Job is to run that names this, or nothing.
    fn namespace(&self, named: Option<&str>, choices: &[Choice]) -> Result<String, Rejection> {
        let Some(named) = named else { return Ok(self.namespaces.own.clone()) };
        if self.namespaces.contains(named) {
            return Ok(named.to_owned());
        }
        let chosen = choices.iter().find(|choice| choice.kind == Kind::Namespace);
        let pointer = chosen.map_or("/template", |choice| choice.pointer.as_str());
        let why = format!("`{named}` is not among the namespaces of this dispatcher (`kubernetes.namespaces`)");
        Err(Rejection::at(Code::PolicyDenied, pointer, why))
    }

    /// The smaller ttl of template and request; the default where neither has one.
    fn cache_plan(&self, request: &Request, template_ttl: Option<Duration>) -> CachePlan {
        let ttl = [template_ttl, request.cache.ttl].into_iter().flatten().min().unwrap_or(self.ttl);
        CachePlan { store: !request.cache.no_store && !ttl.is_zero(), ttl_seconds: ttl.as_secs() }
    }

    fn unknown(&self, name: &str) -> Rejection {
        let known = self.templates.keys().map(String::as_str);
        let message = match nearest(name, known) {
            Some(known) => format!("there is no template `{name}`; did you mean `{known}`?"),
            None => format!("there is no template `{name}`"),
        };
        Rejection::at(Code::TemplateUnknown, "/template", message)
    }
}

#[cfg(test)]
mod tests;
