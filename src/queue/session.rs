//! One connection to the broker.

use std::time::Duration;

use lapin::{Connection, ConnectionProperties};

use super::{Error, call};
use crate::config::SecretUrl;

/// How long a broker may take to say goodbye to a session that was given up.
const GOODBYE: Duration = Duration::from_secs(2);
const FRAME_MAX: &str = "frame_max";

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub enum Purpose {
    Publish,
    /// Whatever else is done beside it.
    Consume,
}

impl Purpose {
    /// In bytes. For each direction the client has room for 32 frames of this size, and goes through all of it in turn.
    fn largest_frame(self) -> u32 {
        match self {
            // That much stays in a processor's own cache. What is set aside has headers of some KiB at most.
            Self::Publish => 16 << 10,
            // The broker's default, which is the limit for whoever sent a message, too: its headers come in one frame.
            Self::Consume => 128 << 10,
        }
    }
}

/// Connects under `name`, which the broker shows to its operators. A `frame_max` in the URL wins over that of the purpose.
///
/// The client has no timeout of its own for a peer that accepts and stays silent.
pub async fn connect(url: &SecretUrl, purpose: Purpose, name: &str, limit: Duration) -> Result<Connection, Error> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let mut url = url.expose().clone();
    if url.query_pairs().all(|(name, _)| name != FRAME_MAX) {
        // Said from the start, room that is not used is not taken either.
        url.query_pairs_mut().append_pair(FRAME_MAX, &purpose.largest_frame().to_string());
    }
    call("connect to RabbitMQ", limit, Connection::connect(url.as_str(), properties)).await
}

/// Does `work` over `connection`, and ends the connection where it fails.
///
/// A call that had no answer keeps the client's connection alive although nobody holds it any more, and the broker may do
/// late what it was asked to: a consumer whom nobody reads would take requests and keep them.
pub(super) async fn ending<T>(
    connection: &Connection,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let done = work.await;
    if done.is_err() {
        goodbye(connection).await;
    }
    done
}

/// Ends a connection whatever the broker says, which may be nothing: it is often the connection that has failed, or it has
/// been closed before.
pub(super) async fn goodbye(connection: &Connection) {
    let _ = call("close the connection", GOODBYE, connection.close(200, "given up".into())).await;
}
