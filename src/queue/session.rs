//! One connection to the broker.

use std::time::Duration;

use lapin::{Connection, ConnectionProperties};

use super::{Error, call};
use crate::config::SecretUrl;

/// How long a broker may take to say goodbye to a session that was given up.
const GOODBYE: Duration = Duration::from_secs(2);

/// Connects under `name`, which the broker shows to its operators.
///
/// The client has no timeout of its own for a peer that accepts and stays silent.
pub async fn connect(url: &SecretUrl, name: &str, limit: Duration) -> Result<Connection, Error> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    call("connect to RabbitMQ", limit, Connection::connect(url.expose().as_str(), properties)).await
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
