//! The edges, and the two ways made of them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::name;
use super::tasks::Tasks;
use crate::cache::{Notes, Store};
use crate::cluster::{Clients, Jobs, joiner};
use crate::completion::Completion;
use crate::config::Config;
use crate::domain::event;
use crate::http::{Access, Pages};
use crate::intake::{Familiar, Gate, Intake, SingleFlight};
use crate::queue::{Inlet, Inspection, Overflow, Parking, publisher};
use crate::reply::{Exchange, Replies, Silent};
use crate::rules::{self, Keeper};
use crate::slots::Slots;
use crate::status::{Journal, Lookout, journal};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{Exposition, Metrics};

/// What both ways meet.
pub(super) struct Edges {
    pub(super) clients: Clients,
    pub(super) jobs: Jobs,
    pub(super) store: Arc<Store>,
    replies: Arc<Replies>,
    overflow: Arc<Overflow>,
    pub(super) rules: rules::Current,
    pub(super) notes: Option<Arc<Notes>>,
    journal: Journal,
    pub(super) metrics: Metrics,
}

impl Edges {
    /// Connects them; what has a task of its own is at work from then on.
    pub(super) async fn connect(
        config: &Config,
        health: &Health,
        stop: &CancellationToken,
        tasks: &mut Tasks,
    ) -> anyhow::Result<Self> {
        let metrics = Metrics::default();
        let clients = Clients::connect(&config.kubernetes).await.context("cannot reach a cluster")?;
        info!(configuration = %clients.origin, server = clients.server, namespace = clients.namespace, "cluster");
        let store = Store::new(&config.cache, &config.results, health.clone(), metrics.clone())
            .context("`cache.url` cannot be used")?;
        let call_timeout = config.kubernetes.call_timeout;
        let (joiner, joining) = joiner(&clients, call_timeout);
        let jobs = Jobs::new(clients.clone(), call_timeout, config.kubernetes.concurrency, joiner, metrics.clone());
        let (keeper, rules) = Keeper::open(config, jobs.clone(), health.clone(), metrics.clone())
            .await
            .context("cannot use the policy file")?;
        let amqp = &config.amqp;
        let (publisher, publishing) = publisher(amqp.clone(), name(config, "publish"), health.clone(), metrics.clone());
        let overflow = Arc::new(Overflow::new(amqp.clone(), name(config, "overflow"), publisher.clone()));
        let notes = match config.status.keep {
            Duration::ZERO => None,
            keep => Some(Arc::new(Notes::new(&config.cache, keep).context("`cache.url` cannot be used")?)),
        };
        let (journal, writing) = journal(notes.clone(), config.status.hits_per_second, metrics.clone());
        tasks.spawn("journal", writing);
        let replies = Arc::new(Replies {
            publisher,
            source: event::source(&config.instance),
            exchange: config.events.exchange.clone().map(Exchange::new),
            silent: Silent::default(),
            public_url: config.http.public_url.clone(),
            inline_max: config.results.inline_max,
            journal: journal.clone(),
            metrics: metrics.clone(),
        });
        tasks.spawn("publisher", publishing);
        tasks.spawn("joiner", joining);
        tasks.spawn("rules", keeper.run(stop.clone()));
        let store = Arc::new(store);
        tasks.spawn("cache", {
            let (store, stop) = (Arc::clone(&store), stop.clone());
            async move { store.keep_connected(stop).await }
        });
        Ok(Self { clients, jobs, store, replies, overflow, rules, notes, journal, metrics })
    }

    pub(super) fn intake(&self, config: &Config, slots: Slots, stop: CancellationToken) -> Arc<Intake> {
        Arc::new(Intake {
            rules: self.rules.clone(),
            store: Arc::clone(&self.store),
            jobs: self.jobs.clone(),
            gate: Gate::new(config.kubernetes.concurrency),
            replies: Arc::clone(&self.replies),
            overflow: Arc::clone(&self.overflow),
            parking: Parking::new(&config.amqp, self.replies.publisher.clone()),
            inlet: Inlet::new(&config.amqp, self.replies.publisher.clone()),
            slots,
            creating: SingleFlight::default(),
            familiar: Familiar::default(),
            journal: self.journal.clone(),
            max_body: config.intake.max_body,
            default_reply: config.replies.default.clone(),
            metrics: self.metrics.clone(),
            stop,
        })
    }

    pub(super) fn completion(&self, config: &Config) -> Arc<Completion> {
        Arc::new(Completion {
            jobs: self.jobs.clone(),
            store: Arc::clone(&self.store),
            replies: Arc::clone(&self.replies),
            overflow: Arc::clone(&self.overflow),
            rules: self.rules.clone(),
            default_reply: config.replies.default.clone(),
            grace: config.results.grace,
            at_work: Completion::permits(),
            room: Completion::room(),
            metrics: self.metrics.clone(),
        })
    }
    /// What is shown and done over HTTP. It holds nothing that has to end before its own task does.
    pub(super) fn pages(
        &self,
        config: &Config,
        intake: &Arc<Intake>,
        slots: Slots,
        health: &Health,
        closed: &CancellationToken,
    ) -> Pages {
        let jobs = Jobs::for_reading(self.clients.clone(), &config.kubernetes, self.metrics.clone());
        Pages {
            health: health.clone(),
            exposition: Exposition::new(&self.metrics, health.clone()),
            store: Arc::clone(&self.store),
            serves_results: config.http.public_url.is_some(),
            lookout: Lookout { notes: self.notes.clone(), jobs },
            access: Access::new(&config.http),
            intake: Arc::downgrade(intake),
            rules: self.rules.clone(),
            slots,
            inspection: Inspection { config: config.amqp.clone(), name: name(config, "inspect") },
            instance: config.instance.clone(),
            metrics: self.metrics.clone(),
            base: config.http.base_path.clone(),
            followers: Pages::followers(),
            closed: closed.clone(),
        }
    }
}
