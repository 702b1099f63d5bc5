//! The notes of this process on their way to Redis.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::cache::Notes;
use crate::domain::event::Event;
use crate::domain::key::RequestKey;
use crate::domain::manifest::Plan;
use crate::domain::request::Arrival;
use crate::domain::status::Noted;
use crate::domain::waiter::Waiter;
use crate::telemetry::metrics::Metrics;

/// Notes that wait: those of some hundreds of requests.
const ROOM: usize = 4096;
/// So many are written at once.
const BATCH: usize = 128;
/// For so long others are waited for that can be written along.
const GATHERING: Duration = Duration::from_millis(20);

/// Where it is noted what becomes of requests. Never waits.
#[derive(Debug, Clone)]
pub struct Journal {
    /// `None`: nothing is remembered.
    notes: Option<mpsc::Sender<Noted>>,
    hits: Option<Arc<DefaultDirectRateLimiter>>,
    metrics: Metrics,
}

/// The journal and its task, which ends when all that hold the journal have gone. Of hits, which may be many thousands a second,
/// it takes at most `hits` a second.
pub fn journal(store: Option<Arc<Notes>>, hits: u32, metrics: Metrics) -> (Journal, impl Future<Output = ()>) {
    let (sender, receiver) = mpsc::channel(ROOM);
    let notes = store.is_some().then_some(sender);
    let hits = NonZeroU32::new(hits).map(|hits| Arc::new(RateLimiter::direct(Quota::per_second(hits))));
    let writing = {
        let metrics = metrics.clone();
        async move {
            if let Some(store) = store {
                write(&store, receiver, &metrics).await;
            }
        }
    };
    (Journal { notes, hits, metrics }, writing)
}

impl Journal {
    /// Whether a hit is to be noted, with all that is said of it.
    pub fn takes_hit(&self) -> bool {
        self.notes.is_some() && self.hits.as_ref().is_some_and(|hits| hits.check().is_ok())
    }

    pub fn received(&self, arrival: &Arrival, waiter: &Waiter, key: Option<&RequestKey>, template: Option<&str>) {
        self.note(|| Some(Noted::received(arrival, waiter, key, template)));
    }

    pub fn parked(&self, waiter: &Waiter, lane: &str) {
        self.note(|| Some(Noted::parked(waiter, lane, Timestamp::now())));
    }

    pub fn placed(&self, waiter: &Waiter, plan: &Plan) {
        self.note(|| Some(Noted::placed(waiter, plan, Timestamp::now())));
    }

    pub fn started(&self, waiter: &Waiter) {
        self.note(|| Some(Noted::started(waiter, Timestamp::now())));
    }

    /// `body` makes the event as it went out.
    pub fn told<'a>(&self, event: &Event<'_>, body: impl FnOnce() -> Cow<'a, [u8]>) {
        self.note(|| Noted::told(event, &body(), Timestamp::now()));
    }

    fn note(&self, note: impl FnOnce() -> Option<Noted>) {
        let Some(notes) = &self.notes else { return };
        match notes.try_reserve() {
            Ok(place) => {
                if let Some(note) = note() {
                    place.send(note);
                }
            }
            Err(_) => Metrics::count(&self.metrics.status_notes, "result", "dropped"),
        }
    }
}

async fn write(store: &Notes, mut notes: mpsc::Receiver<Noted>, metrics: &Metrics) {
    let mut works = true;
    loop {
        let mut batch = Vec::new();
        if notes.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        if batch.len() < BATCH && !notes.is_closed() {
            tokio::time::sleep(GATHERING).await;
            let room = BATCH - batch.len();
            while batch.len() < room
                && let Ok(note) = notes.try_recv()
            {
                batch.push(note);
            }
        }
        // Those of one request stand together, each in its order.
        batch.sort_by(|one, other| one.request_id.cmp(&other.request_id));
        let written = store.write(&batch).await;
        let word = if written.is_ok() { "written" } else { "error" };
        metrics.status_notes.get_or_create(&[("result", word)]).inc_by(batch.len() as u64);
        match &written {
            Ok(()) if !works => info!("what becomes of requests is written down again"),
            Err(reason) if works => warn!(reason, "what becomes of requests is not written down"),
            _ => {}
        }
        works = written.is_ok();
    }
}
