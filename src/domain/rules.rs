//! The operator's rules as they stand at one moment: what can be run, and who may ask for it.

use std::sync::Arc;

use super::catalog::Catalog;
use super::manifest::Plan;
use super::policy::Policies;
use super::rejection::Rejection;
use super::request::Request;

/// Templates and policies that are used together.
#[derive(Debug, Clone)]
pub struct Rules {
    pub catalog: Catalog,
    pub policies: Arc<Policies>,
}

impl Rules {
    /// Authorises a request, renders its Job and makes its key.
    pub fn plan(&self, request: &Request) -> Result<Plan, Rejection> {
        let producer = request.producer.as_deref();
        if let Some(reply_to) = &request.waiter.reply_to {
            self.policies.allow_reply(producer, reply_to)?;
        }
        self.policies.allow_work(request)?;
        let mut plan = self.catalog.plan(request)?;
        self.policies.allow_choices(producer, &plan.choices, &self.catalog.namespaces.own)?;
        if let Some(terms) = self.policies.terms(producer) {
            plan.priority_class = terms.priority_class.clone();
            plan.producer_in_flight = terms.in_flight;
            plan.rate = terms.rate;
            plan.lane = terms.lane.clone().unwrap_or(plan.lane);
        }
        Ok(plan)
    }
}
