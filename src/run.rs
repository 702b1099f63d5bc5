//! The only wiring: connect the edges, name the long-lived tasks, wait for a signal or the first
//! death, drain.

mod edges;
mod tasks;

use std::num::NonZeroU32;
use std::sync::Arc;

use anyhow::Context;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::{Leases, watch, watch_pods};
use crate::completion::successes;
use crate::config::Config;
use crate::domain::lanes::Lanes;
use crate::http;
use crate::members::Membership;
use crate::overdue::{self, Clock};
use crate::queue::{Consumer, PoisonConsumer};
use crate::shutdown::Signals;
use crate::slots::Slots;
use crate::telemetry::health::Health;
use edges::Edges;
use tasks::{HTTP, Tasks};

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
    let listener = match config.http.listen {
        Some(address) => Some(http::listen(address).await?),
        None => None,
    };
    let leases = Leases::new(&edges.clients, config.kubernetes.call_timeout, config.members.lease, &config.instance);
    let (lease, renew) = (config.members.lease, config.members.renew);
    let (membership, duty) = Membership::new(leases, lease, renew, health.clone(), edges.metrics.clone());
    let weights = config.lanes.iter().map(|(lane, weight)| (lane.clone(), weight.get())).collect();
    let lanes = Lanes::new(config.limits.in_flight.map(NonZeroU32::get), weights);
    let slots = Slots::new(lanes, duty.clone(), edges.metrics.clone());
    tasks.spawn("slots", slots.clone().run(stop.clone()));
    let intake = edges.intake(config, slots.clone(), stop.clone());
    let completion = edges.completion(config);
    if let Some(listener) = listener {
        let pages = edges.pages(config, &intake, slots.clone(), health, closed);
        tasks.spawn(HTTP, http::serve(listener, pages, closed.clone()));
    }

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
