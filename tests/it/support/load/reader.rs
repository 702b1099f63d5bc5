//! A reply consumer that writes down every terminal event.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, Consumer};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::support::Event;
use crate::support::checker::Told;

/// How long the client may take to begin, and how often a connection that says nothing is looked at.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Reader {
    pub(super) queue: String,
    notes: Arc<Mutex<Notes>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Notes {
    told: Vec<Told>,
    /// Held against the schema when all is over: that takes long, and would put the times off.
    bodies: Vec<Vec<u8>>,
}

impl Reader {
    pub(super) fn start(url: String, queue: String, begun: Instant) -> Self {
        let notes = Arc::default();
        let task = tokio::spawn(run(url, queue.clone(), begun, Arc::clone(&notes)));
        Self { queue, notes, task }
    }

    pub(super) fn count(&self) -> usize {
        self.notes.lock().expect("nobody panics with it").told.len()
    }

    /// Whose answers have come.
    pub(super) fn requests(&self) -> HashSet<String> {
        self.notes.lock().expect("nobody panics with it").told.iter().map(|told| told.request.clone()).collect()
    }

    /// What was written down; fails on an event that does not fit its schema.
    pub(super) async fn finish(self) -> Vec<Told> {
        self.task.abort();
        if let Err(error) = self.task.await {
            assert!(error.is_cancelled(), "the reader of {} died: {error}", self.queue);
        }
        let Notes { told, bodies } = std::mem::take(&mut *self.notes.lock().expect("nobody panics with it"));
        for body in bodies {
            Event::parse(&body);
        }
        told
    }
}

async fn run(url: String, queue: String, begun: Instant, notes: Arc<Mutex<Notes>>) {
    let mut seen = HashSet::new();
    loop {
        // A broken connection is made anew; what was not acknowledged comes again.
        let _ = read(&url, &queue, begun, &notes, &mut seen).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn read(
    url: &str,
    queue: &str,
    begun: Instant,
    notes: &Mutex<Notes>,
    seen: &mut HashSet<String>,
) -> Result<(), lapin::Error> {
    // A broker that dies meanwhile may leave the client waiting for ever.
    let Ok(opened) = tokio::time::timeout(PATIENCE, consume(url, queue)).await else { return Ok(()) };
    let (connection, mut deliveries) = opened?;
    loop {
        let delivery = match tokio::time::timeout(PATIENCE, deliveries.next()).await {
            Ok(Some(delivery)) => delivery,
            Err(_) if connection.status().connected() => continue,
            Ok(None) | Err(_) => return Ok(()),
        };
        let delivery = delivery?;
        let event = event(queue, begun, &delivery);
        // One that the broker hands out again to this reader is no second answer.
        let known = event.as_ref().is_some_and(|event| !seen.insert(event.id.clone()));
        if let Some(event) = event.filter(|_| !(known && delivery.redelivered)) {
            notes.lock().expect("nobody panics with it").told.push(event);
        }
        let acker = delivery.acker;
        notes.lock().expect("nobody panics with it").bodies.push(delivery.data);
        // A broker that dies just now may leave this waiting for ever too.
        let acknowledged = tokio::time::timeout(PATIENCE, acker.ack(BasicAckOptions::default())).await;
        let Ok(acknowledged) = acknowledged else { return Ok(()) };
        acknowledged?;
    }
}

async fn consume(url: &str, queue: &str) -> Result<(Connection, Consumer), lapin::Error> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let options = BasicConsumeOptions::default();
    let deliveries = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    Ok((connection, deliveries))
}

/// `None` for one that ends nothing.
fn event(queue: &str, begun: Instant, delivery: &Delivery) -> Option<Told> {
    let at = begun.elapsed();
    let body: Value = serde_json::from_slice(&delivery.data).expect("an event is JSON");
    let data = &body["data"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let result = &data["result"];
    (data["terminal"] == true).then(|| Told {
        at,
        queue: queue.to_owned(),
        request: text(&data["request_id"]),
        correlation_id: delivery.properties.correlation_id().as_ref().map(ToString::to_string).unwrap_or_default(),
        id: text(&body["id"]),
        state: text(&data["state"]),
        served_by: text(&data["served_by"]),
        code: text(&data["error"]["code"]),
        key: text(&data["key"]),
        job: text(&data["job"]["name"]),
        job_uid: text(&data["job"]["uid"]),
        sha256: result["sha256"].as_str().map(str::to_owned),
        text: result["text"].as_str().map(str::to_owned),
        outcome: result["json"]["outcome"].as_str().map(str::to_owned),
    })
}
