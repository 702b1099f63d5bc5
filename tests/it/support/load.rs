//! A mixed load against a world, and the history that it leaves for the checker.
//!
//! Two careful producers send what a [`Plan`] says at its times, whether or not answers come, await each
//! confirm, and send again under the same id what was not confirmed. Everything is recorded from before the
//! first request until nothing moves any more.

mod chance;
mod figures;
mod link;
mod plan;
mod reader;
mod sights;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::checker::{Asked, Fault, History, Struck};
use super::{PATIENCE, Recorder, World};
pub(crate) use chance::Chance;
pub(crate) use figures::Recovery;
use link::{Link, Message};
pub(crate) use plan::Plan;
use plan::Step;
use reader::Reader;

/// No answer for so long means that none is coming: what a watch did not say is found once a minute.
const QUIET: Duration = Duration::from_secs(90);
/// How long duplicates are waited for when all is over.
const LINGER: Duration = Duration::from_secs(3);
const PRODUCERS: usize = 2;

/// A load under way.
pub(crate) struct Load<'a> {
    world: &'a World,
    begun: Instant,
    asked: Arc<Mutex<Vec<Asked>>>,
    readers: Vec<Reader>,
    recorder: Recorder,
    faults: Mutex<Vec<Fault>>,
    sending: JoinHandle<()>,
}

impl<'a> Load<'a> {
    /// Begins to send and to record. A fault may strike from now on.
    pub(crate) async fn begin(world: &'a World, plan: Plan) -> Self {
        let begun = Instant::now();
        let recorder = world.recorder();
        let (mut readers, mut links) = (Vec::new(), Vec::new());
        for _ in 0..PRODUCERS {
            let replies = format!("replies.{}", uuid::Uuid::now_v7());
            world.broker.declare(&replies, &serde_json::json!({}));
            readers.push(Reader::start(world.broker.url(), replies, begun));
            links.push(Arc::new(Link::new(world.broker.url())));
        }
        let queues: Vec<_> = readers.iter().map(|reader| reader.queue.clone()).collect();
        let asked = Arc::default();
        let steps = plan.steps(&world.name);
        let sending = tokio::spawn(send(steps, links, queues, begun, Arc::clone(&asked)));
        Self { world, begun, asked, readers, recorder, faults: Mutex::default(), sending }
    }

    /// Notes what is being done to the system from now on, until [`Self::over`] is told this number.
    pub(crate) fn fault(&self, struck: Struck, what: impl Into<String>) -> usize {
        let mut faults = self.faults.lock().expect("nobody panics with it");
        faults.push(Fault { at: self.begun.elapsed(), over: None, struck, what: what.into() });
        faults.len() - 1
    }

    pub(crate) fn over(&self, number: usize) {
        self.faults.lock().expect("nobody panics with it")[number].over = Some(self.begun.elapsed());
    }

    /// The same of one that has met nothing, and explains nothing.
    pub(crate) fn over_unmet(&self, number: usize) {
        self.faults.lock().expect("nobody panics with it")[number].struck = Struck::Nobody;
        self.over(number);
    }

    /// How many answers have come.
    pub(crate) fn answers(&self) -> usize {
        self.readers.iter().map(Reader::count).sum()
    }

    /// Waits until everything is sent, answered and let go, or until nothing moves any more.
    pub(crate) async fn finish(mut self) -> History {
        let sending = std::mem::replace(&mut self.sending, tokio::spawn(async {}));
        tokio::time::timeout(PATIENCE, sending).await.expect("everything is confirmed").expect("the sender lives");
        self.answered().await;
        self.drained().await;
        tokio::time::sleep(LINGER).await;
        let mut events = Vec::new();
        for reader in self.readers {
            events.extend(reader.finish().await);
        }
        events.sort_by_key(|told| told.at);
        let jobs = self.recorder.sightings().iter().map(|sighting| sights::sight(sighting, self.begun)).collect();
        let requests = self.asked.lock().expect("nobody panics with it").clone();
        let faults = self.faults.into_inner().expect("nobody panics with it");
        History { requests, events, jobs, faults, left: left(self.world) }
    }

    async fn answered(&self) {
        let ids: Vec<_> =
            self.asked.lock().expect("nobody panics with it").iter().map(|asked| asked.id.clone()).collect();
        let (mut count, mut moved) = (0, Instant::now());
        loop {
            let told: HashSet<_> = self.readers.iter().flat_map(Reader::requests).collect();
            if ids.iter().all(|id| told.contains(id)) {
                return;
            }
            let now = self.answers();
            if now > count {
                (count, moved) = (now, Instant::now());
            }
            if moved.elapsed() > QUIET {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until the queues are empty and nothing holds a finalizer; what is left then is part of the history.
    async fn drained(&self) {
        let begun = Instant::now();
        while begun.elapsed() < QUIET && (self.recorder.owing() > 0 || queued(self.world) > 0) {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

async fn send(
    steps: Vec<Step>,
    links: Vec<Arc<Link>>,
    queues: Vec<String>,
    begun: Instant,
    asked: Arc<Mutex<Vec<Asked>>>,
) {
    let mut sends = tokio::task::JoinSet::new();
    for step in steps {
        tokio::time::sleep_until((begun + step.at).into()).await;
        let (link, reply_to) = (Arc::clone(&links[step.producer]), queues[step.producer].clone());
        let correlation_id = format!("c.{}", step.id);
        let message = Message {
            id: step.id.clone(),
            correlation_id: correlation_id.clone(),
            reply_to: reply_to.clone(),
            body: step.body.to_string().into_bytes(),
        };
        let place = {
            let mut asked = asked.lock().expect("nobody panics with it");
            let at = begun.elapsed();
            let Step { id, wish, in_crowd, .. } = step;
            asked.push(Asked { id, correlation_id, reply_to, wish, in_crowd, at, sent: 0, confirmed: None });
            asked.len() - 1
        };
        let asked = Arc::clone(&asked);
        sends.spawn(async move {
            loop {
                let channel = link.open().await;
                asked.lock().expect("nobody panics with it")[place].sent += 1;
                if Link::confirmed(&channel, &message).await {
                    break;
                }
            }
            asked.lock().expect("nobody panics with it")[place].confirmed = Some(begun.elapsed());
        });
    }
    while let Some(sent) = sends.join_next().await {
        sent.expect("a message is sent");
    }
}

/// Where a request may be.
const QUEUES: [&str; 4] = ["jobquay.requests", "jobquay.pending.default", "jobquay.pending.bulk", "jobquay.poison"];
/// What an operator looks at.
const ASIDE: [&str; 2] = ["jobquay.dead", "jobquay.undeliverable"];

/// How many messages wait or are held unacknowledged.
fn queued(world: &World) -> u64 {
    QUEUES.iter().map(|queue| world.broker.queue(queue)["messages"].as_u64().unwrap_or(1)).sum()
}

/// What is in a queue that should be empty, also in one that waiters overflowed to.
fn left(world: &World) -> Vec<String> {
    let queues = world.broker.queues().into_iter().filter(|queue| !ASIDE.contains(&queue.as_str()));
    let waiting = queues.filter_map(|queue| {
        let messages = world.broker.queue(&queue)["messages"].clone();
        // One that went meanwhile says nothing.
        (!messages.is_null() && messages != 0).then(|| format!("{messages} messages in {queue}"))
    });
    let aside = ASIDE.into_iter().flat_map(|queue| {
        // What the broker gave up is answered as well, and kept for an operator.
        let messages = world.broker.drain(queue).into_iter();
        let strange = messages.filter(|message| message["properties"]["headers"]["jobquay-code"] != "request.poison");
        strange.map(move |message| format!("in {queue}: {message}"))
    });
    waiting.chain(aside).collect()
}
