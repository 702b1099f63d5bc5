//! Twice as many requests as can be answered, for a while.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::TryStreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Connection, ConnectionProperties, PublisherConfirm};
use serde::Serialize;
use serde_json::json;

use super::Scale;
use crate::broker::Broker;
use crate::cached::Cached;
use crate::contender::{Contender, Running};
use crate::contenders::echo_and_dispatcher;
use crate::drain::{REPLIES, drain};
use crate::goals::Figure;
use crate::measure::ratio::Interval;
use crate::report::{Part, Table};
use crate::stack::Stack;

/// Requests are sent in handfuls, this far apart.
const HANDFUL: Duration = Duration::from_millis(10);
/// What the broker has not confirmed is still in the client, which would drop it with the connection.
const UNCONFIRMED: usize = 10_000;
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Much longer than a backlog of the whole length takes.
const PATIENCE: u32 = 4;

#[derive(Debug, Clone, Copy, Serialize)]
struct Run {
    /// Answers a second from a backlog, with nobody sending.
    peak: f64,
    /// Requests and answers a second while it lasts.
    offered: f64,
    goodput: f64,
    resident_kib: [u64; 2],
    /// Seconds until the last answer, after the last request.
    drained: f64,
    /// The backlog by then, divided by the peak.
    drain_floor: f64,
}

pub(super) async fn measure(stack: &Stack, scale: &Scale) -> Result<Part> {
    let broker = Broker::connect(stack.amqp()).await?;
    let cached = Cached::prepare(stack, &broker, 500).await?;
    let contenders = echo_and_dispatcher(stack, &cached);
    let mut table = Table::new(&[
        "",
        "peak, /s",
        "offered, /s",
        "goodput, /s",
        "MiB in the middle, at the end",
        "drained in",
        "÷ backlog at the peak",
    ]);
    let mut runs = Vec::new();
    for contender in &contenders {
        broker.renew(&contender.queue, scale.queues).await?;
        let run = once(stack, &broker, contender, scale).await?;
        eprintln!("{}: {run:?}", contender.name);
        table.rows.push(vec![
            contender.name.clone(),
            format!("{:.0}", run.peak),
            format!("{:.0}", run.offered),
            format!("{:.0}", run.goodput),
            run.resident_kib.map(|kib| (kib >> 10).to_string()).join(", "),
            format!("{:.1} s", run.drained),
            format!("{:.2}", run.drained / run.drain_floor),
        ]);
        runs.push(run);
    }
    Ok(Part {
        name: format!("overload: twice the peak for {} s", scale.overload.as_secs()),
        notes: vec!["sending takes its part of the machine, from both alike".to_owned()],
        tables: vec![table],
        figures: vec![(Figure::OverloadGoodputToPeak, Interval::exact(runs[1].goodput / runs[1].peak))],
        data: json!(runs),
    })
}

async fn once(stack: &Stack, broker: &Broker, contender: &Contender, scale: &Scale) -> Result<Run> {
    let peak = drain(stack, broker, contender, scale.queues, scale.backlog / 2).await?.rate;
    broker.renew(REPLIES, scale.queues).await?;
    broker.renew(&contender.queue, scale.queues).await?;
    let mut running = Running::start((contender.command)(), &stack.dir.join("log/overload.log"))?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let begun = Instant::now();
    let sending = flood(stack.amqp(), contender, peak * 2.0, scale.overload);
    let watching = async {
        tokio::time::sleep(scale.overload / 2).await;
        Ok::<_, anyhow::Error>(running.usage().resident_kib)
    };
    let (sent, middle) = tokio::try_join!(sending, watching)?;
    let lasted = begun.elapsed().as_secs_f64();
    let answered = broker.depth(REPLIES).await? as usize;
    let end = running.usage().resident_kib;
    let drained = Instant::now();
    while (broker.depth(REPLIES).await? as usize) < sent {
        ensure!(!running.has_ended(), "{} has ended", contender.name);
        ensure!(drained.elapsed() < scale.overload * PATIENCE, "{} does not come to an end", contender.name);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(Run {
        peak,
        offered: sent as f64 / lasted,
        goodput: answered as f64 / lasted,
        resident_kib: [middle, end],
        drained: drained.elapsed().as_secs_f64(),
        drain_floor: (sent - answered) as f64 / peak,
    })
}

/// Sends at a rate for a time, or as fast as the broker confirms it; how many.
async fn flood(url: &str, contender: &Contender, rate: f64, length: Duration) -> Result<usize> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut unconfirmed = FuturesUnordered::new();
    let mut handfuls = tokio::time::interval(HANDFUL);
    let begun = Instant::now();
    let (mut sent, mut told) = (0, begun);
    while begun.elapsed() < length {
        handfuls.tick().await;
        let due = (begun.elapsed().as_secs_f64() * rate) as usize;
        while sent < due && begun.elapsed() < length {
            unconfirmed.push(send(&channel, contender, sent).await?);
            sent += 1;
            while unconfirmed.len() > UNCONFIRMED {
                unconfirmed.try_next().await?;
            }
        }
        if told.elapsed() > LOOK_EVERY {
            told = Instant::now();
            eprintln!("{:.0} s: {sent} sent", begun.elapsed().as_secs_f64());
        }
    }
    while unconfirmed.try_next().await?.is_some() {}
    Ok(sent)
}

async fn send(channel: &Channel, contender: &Contender, number: usize) -> Result<PublisherConfirm> {
    let message = (contender.message)(number);
    let queue = contender.queue.as_str();
    let options = BasicPublishOptions::default();
    Ok(channel.basic_publish("".into(), queue.into(), options, &message.body, message.properties).await?)
}
