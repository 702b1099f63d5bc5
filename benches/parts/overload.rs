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
use crate::drain::REPLIES;
use crate::goals::Figure;
use crate::measure::quiet::Quiet;
use crate::measure::ratio::{median, of_samples};
use crate::open_loop;
use crate::report::{Part, Table};
use crate::stack::Stack;

/// Requests are sent in handfuls, this far apart.
const HANDFUL: Duration = Duration::from_millis(10);
/// What the broker has not confirmed is still in the client, which would drop it with the connection.
const UNCONFIRMED: usize = 10_000;
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Parts of the time, and how often the peak is measured.
const LOOKS: u32 = 10;
const PEAKS: usize = 3;
/// Much longer than a backlog of the whole length takes.
const PATIENCE: u32 = 4;

#[derive(Debug, Clone, Serialize)]
struct Run {
    /// Answers a second while 1000 requests are always under way, and the generator works too.
    peaks: Vec<f64>,
    /// Requests a second while it lasts, and answers a second in each part of that time.
    offered: f64,
    goodput: Vec<f64>,
    /// In the middle and at the end.
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
        "÷ peak",
        "MiB in the middle, at the end",
        "drained in",
        "÷ backlog at the peak",
    ]);
    let (mut runs, mut disturbed) = (Vec::new(), Vec::new());
    for contender in &contenders {
        let quiet = Quiet::from_now(stack);
        let run = once(stack, &broker, contender, scale).await?;
        disturbed.extend(quiet.disturbance().map(|flaw| format!("{}: {flaw}", contender.name)));
        eprintln!("{}: {run:?}", contender.name);
        table.rows.push(vec![
            contender.name.clone(),
            format!("{:.0}", median(&run.peaks)),
            format!("{:.0}", run.offered),
            format!("{:.0}", median(&run.goodput)),
            of_samples(&run.goodput, &run.peaks).to_string(),
            run.resident_kib.map(|kib| (kib >> 10).to_string()).join(", "),
            format!("{:.1} s", run.drained),
            format!("{:.2}", run.drained / run.drain_floor),
        ]);
        runs.push(run);
    }
    Ok(Part {
        name: format!("overload: twice the peak for {} s", scale.overload.as_secs()),
        notes: vec![
            "sending twice as much takes twice its part of the machine, which the bare echo loses too: its ratio is what can be \
             reached here"
                .to_owned(),
            format!("goodput is read {LOOKS} times, the peak {PEAKS} times"),
        ],
        tables: vec![table],
        figures: vec![(Figure::OverloadGoodputToPeak, of_samples(&runs[1].goodput, &runs[1].peaks))],
        data: json!(runs),
        disturbed,
    })
}

async fn once(stack: &Stack, broker: &Broker, contender: &Contender, scale: &Scale) -> Result<Run> {
    let renew = async || {
        broker.renew(REPLIES, scale.queues).await?;
        broker.renew(&contender.queue, scale.queues).await
    };
    renew().await?;
    let log = stack.dir.join("log/overload.log");
    let mut running = Running::start((contender.command)(), &log)?;
    let mut peaks = Vec::new();
    for _ in 0..PEAKS {
        // What the one before has left would be under way as well.
        broker.purge(&contender.queue).await?;
        broker.purge(REPLIES).await?;
        peaks.push(open_loop::capacity(stack.amqp(), &contender.queue, &contender.message).await?);
    }
    running.kill();
    renew().await?;
    let mut running = Running::start((contender.command)(), &log)?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let begun = Instant::now();
    let peak = median(&peaks);
    let sending = flood(stack.amqp(), contender, peak * 2.0, scale.overload);
    let (sent, (goodput, resident)) = tokio::try_join!(sending, watch(broker, &running, scale.overload))?;
    let lasted = begun.elapsed().as_secs_f64();
    let answered = broker.depth(REPLIES).await? as usize;
    let drained = Instant::now();
    while (broker.depth(REPLIES).await? as usize) < sent {
        ensure!(!running.has_ended(), "{} has ended", contender.name);
        ensure!(drained.elapsed() < scale.overload * PATIENCE, "{} does not come to an end", contender.name);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(Run {
        offered: sent as f64 / lasted,
        goodput,
        resident_kib: resident,
        drained: drained.elapsed().as_secs_f64(),
        drain_floor: sent.saturating_sub(answered) as f64 / peak,
        peaks,
    })
}

/// Answers a second in each part of the time but the first, and the memory in the middle and at the end.
async fn watch(broker: &Broker, running: &Running, length: Duration) -> Result<(Vec<f64>, [u64; 2])> {
    let (mut rates, mut resident) = (Vec::new(), Vec::new());
    let (mut at, mut answers) = (Instant::now(), 0);
    for _ in 0..LOOKS {
        tokio::time::sleep(length / LOOKS).await;
        let (now, there) = (Instant::now(), broker.depth(REPLIES).await?);
        rates.push(f64::from(there.saturating_sub(answers)) / (now - at).as_secs_f64());
        resident.push(running.usage().resident_kib);
        (at, answers) = (now, there);
    }
    Ok((rates.split_off(1), [resident[resident.len() / 2], resident[resident.len() - 1]]))
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
