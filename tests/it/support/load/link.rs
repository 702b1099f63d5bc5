//! A producer's connection: what is not confirmed counts as not sent, and a broken connection is made anew.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::sync::Mutex;

/// How long a confirm is waited for.
const CONFIRM: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(500);

pub(super) struct Link {
    url: String,
    open: Mutex<Option<(Connection, Channel)>>,
}

pub(super) struct Message {
    pub(super) id: String,
    pub(super) correlation_id: String,
    pub(super) reply_to: String,
    pub(super) body: Vec<u8>,
}

impl Link {
    pub(super) fn new(url: String) -> Self {
        Self { url, open: Mutex::default() }
    }

    /// A channel, once there is one.
    pub(super) async fn open(&self) -> Channel {
        loop {
            if let Some(channel) = self.channel().await {
                return channel;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Publishes once; whether the broker has taken it. After a failure a while passes.
    pub(super) async fn confirmed(channel: &Channel, message: &Message) -> bool {
        let confirmed = tokio::time::timeout(CONFIRM, publish(channel, message)).await.unwrap_or(false);
        if !confirmed {
            tokio::time::sleep(AGAIN).await;
        }
        confirmed
    }

    async fn channel(&self) -> Option<Channel> {
        let mut open = self.open.lock().await;
        if let Some((_, channel)) = open
            .as_ref()
            .filter(|(connection, channel)| connection.status().connected() && channel.status().connected())
        {
            return Some(channel.clone());
        }
        // A broker that dies meanwhile may leave the client waiting for ever.
        let (connection, channel) = tokio::time::timeout(CONFIRM, connect(&self.url)).await.ok()?.ok()?;
        *open = Some((connection, channel.clone()));
        Some(channel)
    }
}

async fn connect(url: &str) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

async fn publish(channel: &Channel, message: &Message) -> bool {
    let properties = BasicProperties::default()
        .with_message_id(message.id.as_str().into())
        .with_correlation_id(message.correlation_id.as_str().into())
        .with_reply_to(message.reply_to.as_str().into())
        .with_delivery_mode(2);
    let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
    let published = channel.basic_publish("".into(), "jobquay.requests".into(), mandatory, &message.body, properties);
    let Ok(confirm) = published.await else { return false };
    confirm.await.is_ok_and(|confirmation| confirmation.is_ack() && confirmation.take_message().is_none())
}
