//! The session that consumes requests and the lanes in which they wait.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use futures_util::stream::StreamExt;
use lapin::{Connection, Event};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::acks::Acknowledger;
use super::pending::own_user;
use super::sources::Sources;
use super::{CALL_TIMEOUT, Delivery, Error, Purpose, REQUESTS, call, connect, ending, goodbye, short, topology};
use crate::backoff::Backoff;
use crate::config::Amqp;
use crate::telemetry::chain;
use crate::telemetry::health::{Edge, Health};
use crate::telemetry::metrics::Metrics;

/// A session that has lived this long is not ended by what it takes in hand, nor by a link that fails under it.
const PROVEN_AFTER: Duration = Duration::from_secs(5);

/// So many handfuls are taken at once.
const TURNS: usize = 4;

/// Deliveries that came together.
#[derive(Debug)]
pub struct Handful {
    pub deliveries: Vec<Delivery>,
    /// As long as it is held, one handful less is taken: what comes meanwhile comes together.
    pub turn: OwnedSemaphorePermit,
}

/// Consumes `jobquay.requests` and the pending queues, one session after the other.
pub struct Consumer {
    pub config: Amqp,
    pub exchange: Option<String>,
    pub lanes: Vec<String>,
    pub name: String,
    pub health: Health,
    pub metrics: Metrics,
}

/// How many deliveries a session takes in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Intensity {
    Full,
    /// After a message that the client cannot read, which kills the connection, and after a session that
    /// died young: the broker counts the end against every delivery in hand, seen or not, and gives up
    /// what has reached the queue's delivery limit. So only one is at stake, until a session has proven
    /// that it lives: the bad message is parked, or the link holds again.
    OneByOne,
}

/// Why a session ended without an error.
enum End {
    Stopped,
    /// One at a time for long enough.
    Refill,
}

impl Consumer {
    /// Calls `handle` for what comes, concurrently, until `stop`; then hands back what was not
    /// begun and waits for what was. Handlers of a session that fails are dropped: their deliveries
    /// come again.
    pub async fn run<H, F>(self, stop: CancellationToken, handle: H)
    where
        H: Fn(Handful) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut backoff = Backoff::for_sessions();
        let mut unreadable = Backoff::for_unreadable();
        let mut intensity = Intensity::Full;
        loop {
            let mut handlers = JoinSet::new();
            let ended = match connect(&self.config.url, Purpose::Consume, &self.name, self.config.connect_timeout).await
            {
                Ok(connection) => {
                    let session =
                        self.session(&connection, &stop, &mut intensity, &handle, &mut handlers, &mut backoff);
                    ending(&connection, session).await
                }
                Err(error) => Err(error),
            };
            self.health.set(Edge::Consumer, false);
            match ended {
                Ok(End::Stopped) => return,
                Ok(End::Refill) => unreadable.reset(),
                Err(error) => {
                    handlers.shutdown().await;
                    Metrics::count(&self.metrics.reconnects, "edge", "consumer");
                    if error.is_unparseable() {
                        error!(
                            queue = REQUESTS,
                            "a message that the AMQP client cannot parse killed the connection; taking one at a time until the broker parks it"
                        );
                        intensity = Intensity::OneByOne;
                    } else {
                        warn!(error = chain(&error), "consumer session ended");
                    }
                    let wait = if error.is_unparseable() { &mut unreadable } else { &mut backoff };
                    tokio::select! {
                        () = wait.wait() => {}
                        () = stop.cancelled() => return,
                    }
                }
            }
        }
    }

    /// Leaves in `intensity` what the next session is to take.
    async fn session<H, F>(
        &self,
        connection: &Connection,
        stop: &CancellationToken,
        intensity: &mut Intensity,
        handle: &H,
        handlers: &mut JoinSet<()>,
        backoff: &mut Backoff,
    ) -> Result<End, Error>
    where
        H: Fn(Handful) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        topology::prepare(connection, self.config.topology, self.exchange.as_deref(), &self.lanes).await?;
        let (prefetch, lanes) = match intensity {
            Intensity::OneByOne => (1, &[][..]),
            Intensity::Full => (self.config.prefetch, self.lanes.as_slice()),
        };
        // Until it has proven itself.
        let taking = std::mem::replace(intensity, Intensity::OneByOne);
        let (mut sources, acknowledgers) = Sources::open(connection, prefetch, lanes, own_user(&self.config)).await?;
        let mut acknowledging = pin!(try_join_all(acknowledgers.into_iter().map(Acknowledger::run)));
        let mut events = connection.events_listener();
        let turns = Arc::new(Semaphore::new(TURNS));
        let mut proof = pin!(tokio::time::sleep(PROVEN_AFTER));
        let mut proven = false;
        self.health.set(Edge::Consumer, true);
        info!(queue = REQUESTS, prefetch, "consuming");
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                ended = &mut acknowledging => return Err(ended.err().unwrap_or(Error::Ack)),
                () = &mut proof, if !proven => {
                    backoff.reset();
                    *intensity = Intensity::Full;
                    if taking == Intensity::OneByOne {
                        let drained = drain(connection, sources, handlers, acknowledging);
                        // The one handler may wait for long; its delivery comes again.
                        let _ = tokio::time::timeout(PROVEN_AFTER, drained).await;
                        handlers.shutdown().await;
                        goodbye(connection).await;
                        return Ok(End::Refill);
                    }
                    proven = true;
                }
                Some(event) = events.next() => {
                    if let Event::Error(source) = event {
                        return Err(Error::Amqp { action: "keep the connection", source });
                    }
                }
                // In one task: what they wait for comes together too, and wakes it once.
                handful = next_handful(&turns, &mut sources) => {
                    handlers.spawn(handle(handful?));
                }
                // What it has not settled comes again with the next session.
                Some(ended) = handlers.join_next() => ended.map_err(|_| Error::Died)?,
            }
        }
        self.health.set(Edge::Consumer, false);
        drain(connection, sources, handlers, acknowledging).await?;
        Ok(End::Stopped)
    }
}

/// Cancel safe: what was taken has been given out.
async fn next_handful(turns: &Arc<Semaphore>, sources: &mut Sources) -> Result<Handful, Error> {
    let turn = Arc::clone(turns).acquire_owned().await.expect("the semaphore is never closed");
    Ok(Handful { deliveries: sources.next_handful().await?, turn })
}

/// Takes nothing more, hands back what was not begun, waits for what was, and says goodbye. The
/// caller bounds the wait.
async fn drain(
    connection: &Connection,
    sources: Sources,
    handlers: &mut JoinSet<()>,
    acknowledging: impl Future<Output = Result<Vec<()>, Error>>,
) -> Result<(), Error> {
    let finishing = async {
        let handed_back = sources.close().await?;
        while handlers.join_next().await.is_some() {}
        Ok(handed_back)
    };
    // Nobody takes deliveries any more then, and what was said of them is told to its end.
    let (handed_back, _) = tokio::try_join!(finishing, acknowledging)?;
    info!(handed_back, "stopped consuming");
    // What the broker says to the goodbye changes nothing.
    let _ = call("close the connection", CALL_TIMEOUT, connection.close(200, short("done")?)).await;
    Ok(())
}
