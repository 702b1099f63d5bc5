//! One connection to the broker.

use std::time::Duration;

use lapin::{Connection, ConnectionProperties};

use super::{Error, call};
use crate::config::SecretUrl;

/// Connects under `name`, which the broker shows to its operators.
///
/// The client has no timeout of its own for a peer that accepts and stays silent.
pub async fn connect(url: &SecretUrl, name: &str, limit: Duration) -> Result<Connection, Error> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    call("connect to RabbitMQ", limit, Connection::connect(url.expose().as_str(), properties)).await
}
