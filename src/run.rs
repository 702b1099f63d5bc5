//! The only wiring: connect the edges, name the long-lived tasks, wait for a signal or the first
//! death, drain.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::cache::Store;
use crate::cluster::{Clients, Jobs, Leases, joiner, watch, watch_pods};
use crate::completion::{Completion, successes};
use crate::config::Config;
use crate::domain::event;
use crate::domain::lanes::Lanes;
use crate::http::{self, Pages};
use crate::intake::{Familiar, Gate, Intake, SingleFlight};
use crate::members::Membership;
use crate::overdue::{self, Clock};
use crate::queue::{Consumer, Overflow, Parking, PoisonConsumer, publisher};
use crate::reply::{Exchange, Replies, Silent};
use crate::rules::{self, Keeper};
use crate::shutdown::Signals;
use crate::slots::Slots;
use crate::telemetry::chain;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{Exposition, Metrics};

/// Runs a dispatcher until it is told to stop. An error means that it ended otherwise.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let (stop, closed) = (CancellationToken::new(), CancellationToken::new());
    let health = Health::default();
    let mut tasks = start(&config, &health, &stop, &closed).await?;
    let signal = tokio::select! {
        signal = signals.next() => signal,
        name = tasks.first_end() => anyhow::bail!("the task `{name}` ended"),
    };
    info!(signal, grace = ?config.shutdown.grace, "stopping: finishing what is held, handing back the rest");
    health.drain();
    stop.cancel();
    tokio::select! {
        () = tasks.drain(&closed, config.shutdown.grace) => Ok(()),
        signal = signals.next() => anyhow::bail!("a second signal ({signal}) ended it at once"),
    }
}

async fn start(
    config: &Config,
    health: &Health,
    stop: &CancellationToken,
    closed: &CancellationToken,
) -> anyhow::Result<Tasks> {
    let mut tasks = Tasks::default();
    let edges = Edges::connect(config, health, stop, &mut tasks).await?;
    if let Some(address) = config.http.listen {
        let listener = http::listen(address).await?;
        let pages = Pages {
            health: health.clone(),
            exposition: Exposition::new(&edges.metrics, health.clone()),
            store: Arc::clone(&edges.store),
            serves_results: config.http.public_url.is_some(),
        };
        tasks.spawn(HTTP, http::serve(listener, pages, closed.clone()));
    }
    let leases = Leases::new(&edges.clients, config.kubernetes.call_timeout, config.members.lease, &config.instance);
    let (lease, renew) = (config.members.lease, config.members.renew);
    let (membership, duty) = Membership::new(leases, lease, renew, health.clone(), edges.metrics.clone());
    let weights = config.lanes.iter().map(|(lane, weight)| (lane.clone(), weight.get())).collect();
    let lanes = Lanes::new(config.limits.in_flight.map(NonZeroU32::get), weights);
    let slots = Slots::new(lanes, duty.clone(), edges.metrics.clone());
    tasks.spawn("slots", slots.clone().run(stop.clone()));
    let intake = edges.intake(config, slots.clone(), stop.clone());
    let completion = edges.completion(config);

    let clock = Clock::new(edges.clients.time.clone());
    let (see, successes) = successes();
    let pods = watch_pods(&edges.clients).inspect(see);
    tasks.spawn("clock", overdue::run(clock.clone(), edges.jobs.clone(), pods, duty.clone(), stop.clone()));
    // Others take over only when nothing is at work here any more.
    let leave = CancellationToken::new();
    tasks.spawn("members", membership.run(leave.clone()));
    let known = edges.jobs.clone();
    let sightings = watch(&edges.clients, health.clone()).inspect(move |sighted| {
        slots.observe(sighted);
        known.observe(sighted);
        clock.observe(sighted);
    });
    tasks.spawn("completion", {
        let (stop, leaves) = (stop.clone(), leave.drop_guard());
        async move {
            completion.run(sightings, successes, duty, stop).await;
            drop(leaves);
        }
    });
    let poison =
        PoisonConsumer { config: config.amqp.clone(), name: name(config, "poison"), metrics: edges.metrics.clone() };
    tasks.spawn("undertaker", {
        let (stop, intake) = (stop.clone(), Arc::clone(&intake));
        async move { poison.run(stop, |delivery| Arc::clone(&intake).handle(delivery)).await }
    });
    let consumer = Consumer {
        config: config.amqp.clone(),
        exchange: config.events.exchange.clone(),
        lanes: config.lanes.keys().cloned().collect(),
        name: name(config, "consume"),
        health: health.clone(),
        metrics: edges.metrics.clone(),
    };
    tasks.spawn("intake", {
        let stop = stop.clone();
        async move { consumer.run(stop, move |handful| Arc::clone(&intake).handle_handful(handful)).await }
    });
    // Only to know from the start whether it is there; the log says so when it is not.
    if let Err(reason) = edges.store.ping().await {
        warn!(reason, "Redis is away: every lookup is a miss until it is back");
    }
    Ok(tasks)
}

/// What the broker's operator sees a connection by.
fn name(config: &Config, role: &str) -> String {
    format!("jobquay {} {role}", config.instance)
}

/// What both ways meet.
struct Edges {
    clients: Clients,
    jobs: Jobs,
    store: Arc<Store>,
    replies: Arc<Replies>,
    overflow: Arc<Overflow>,
    rules: rules::Current,
    metrics: Metrics,
}

impl Edges {
    /// Connects them; what has a task of its own is at work from then on.
    async fn connect(
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
        let replies = Arc::new(Replies {
            publisher,
            source: event::source(&config.instance),
            exchange: config.events.exchange.clone().map(Exchange::new),
            silent: Silent::default(),
            public_url: config.http.public_url.clone(),
            inline_max: config.results.inline_max,
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
        Ok(Self { clients, jobs, store, replies, overflow, rules, metrics })
    }

    fn intake(&self, config: &Config, slots: Slots, stop: CancellationToken) -> Arc<Intake> {
        Arc::new(Intake {
            rules: self.rules.clone(),
            store: Arc::clone(&self.store),
            jobs: self.jobs.clone(),
            gate: Gate::new(config.kubernetes.concurrency),
            replies: Arc::clone(&self.replies),
            overflow: Arc::clone(&self.overflow),
            parking: Parking::new(&config.amqp, self.replies.publisher.clone()),
            slots,
            creating: SingleFlight::default(),
            familiar: Familiar::default(),
            max_body: config.intake.max_body,
            default_reply: config.replies.default.clone(),
            metrics: self.metrics.clone(),
            stop,
        })
    }

    fn completion(&self, config: &Config) -> Arc<Completion> {
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
}

const HTTP: &str = "http";

/// The long-lived tasks. Intake and completion hold the only handles of the publisher and the joiner,
/// so these two end by themselves once the former have: with nothing left to publish.
#[derive(Default)]
struct Tasks {
    set: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Tasks {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.set.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits for one to end, whichever way; `None` when there is none.
    async fn next_end(&mut self) -> Option<&'static str> {
        let id = match self.set.join_next_with_id().await? {
            Ok((id, ())) => id,
            Err(error) => {
                error!(error = chain(&error), "a task died");
                error.id()
            }
        };
        Some(self.names.remove(&id).unwrap_or("unknown"))
    }

    async fn first_end(&mut self) -> &'static str {
        match self.next_end().await {
            Some(name) => name,
            None => std::future::pending().await,
        }
    }

    /// Waits until all have ended, the probes last; after `grace` what is left is dropped, and the
    /// broker hands it to someone else.
    async fn drain(&mut self, closed: &CancellationToken, grace: Duration) {
        let all = async {
            while self.names.values().any(|name| *name != HTTP) {
                self.next_end().await;
            }
            closed.cancel();
            while self.next_end().await.is_some() {}
        };
        if tokio::time::timeout(grace, all).await.is_err() {
            warn!(?grace, left = ?self.names.values(), "the grace is over; what is left is handed back by the broker");
        } else {
            info!("stopped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_lived_task_that_ends_or_dies_is_named() {
        for task in ["returns", "panics"] {
            let mut tasks = Tasks::default();
            tasks.spawn("steady", std::future::pending());
            tasks.spawn(task, async move { assert_eq!(task, "returns") });
            assert_eq!(tasks.first_end().await, task);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_waits_for_all_but_not_beyond_the_grace_and_closes_the_probes_last() {
        let (closed, begun) = (CancellationToken::new(), tokio::time::Instant::now());
        let mut tasks = Tasks::default();
        tasks.spawn(HTTP, closed.clone().cancelled_owned());
        tasks.spawn("work", tokio::time::sleep(Duration::from_secs(3)));
        tasks.drain(&closed, Duration::from_secs(10)).await;
        assert_eq!((begun.elapsed(), tasks.names.len()), (Duration::from_secs(3), 0));
        tasks.spawn("stuck", std::future::pending());
        tasks.drain(&closed, Duration::from_secs(10)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(13));
    }
}
