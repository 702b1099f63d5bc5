//! A producer: confirmed requests out, events in.

use futures_util::StreamExt;
use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use serde_json::Value;

use super::{Event, PATIENCE, eventually};

pub(crate) struct Producer {
    _connection: Connection,
    channel: Channel,
    events: Consumer,
    pub(crate) replies: String,
}

/// One message to send; everything but the body has a default.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) body: Vec<u8>,
    pub(crate) id: Option<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) reply_to: Option<String>,
    pub(crate) no_reply: bool,
    pub(crate) content_type: Option<String>,
    pub(crate) user_id: Option<String>,
}

impl Request {
    pub(crate) fn json(body: &Value) -> Self {
        Self { body: body.to_string().into_bytes(), ..Self::default() }
    }

    pub(crate) fn template(name: &str, params: &Value) -> Self {
        Self::json(&serde_json::json!({"template": name, "params": params}))
    }

    pub(crate) fn id(self, id: &str) -> Self {
        Self { id: Some(id.to_owned()), ..self }
    }
}

impl Producer {
    pub(crate) async fn connect(url: &str) -> Self {
        let (connection, channel) = open(url).await;
        let replies = format!("replies.{}", uuid::Uuid::now_v7());
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(replies.as_str().into(), durable, FieldTable::default()).await.expect("a reply queue");
        let events = consume(&channel, &replies).await;
        Self { _connection: connection, channel, events, replies }
    }

    /// Over a reply queue that is there.
    pub(crate) async fn connect_without_queue(url: &str, replies: &str) -> Self {
        let (connection, channel) = open(url).await;
        let events = consume(&channel, replies).await;
        Self { _connection: connection, channel, events, replies: replies.to_owned() }
    }

    /// The same reply queue over a new connection, after the broker was away.
    pub(crate) async fn reconnect(self, url: &str) -> Self {
        Self::connect_without_queue(url, &self.replies).await
    }

    /// Publishes and waits for the confirm; returns the request id.
    pub(crate) async fn send(&self, request: Request) -> String {
        let id = request.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let mut properties = BasicProperties::default()
            .with_message_id(id.as_str().into())
            .with_correlation_id(request.correlation_id.unwrap_or_else(|| id.clone()).into())
            .with_delivery_mode(2);
        if !request.no_reply {
            properties = properties.with_reply_to(request.reply_to.unwrap_or_else(|| self.replies.clone()).into());
        }
        if let Some(content_type) = request.content_type {
            properties = properties.with_content_type(content_type.into());
        }
        if let Some(user_id) = request.user_id {
            properties = properties.with_user_id(user_id.into());
        }
        let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
        let published =
            self.channel.basic_publish("".into(), "jobquay.requests".into(), mandatory, &request.body, properties);
        let confirmation = published.await.expect("a publish").await.expect("a confirm");
        assert!(confirmation.is_ack() && confirmation.take_message().is_none(), "the request was not taken");
        id
    }

    /// Sends all at once; returns when every confirm is there.
    pub(crate) async fn send_many(&self, requests: impl Iterator<Item = Request>) -> Vec<String> {
        let sent = futures_util::stream::iter(requests.map(|request| self.send(request)));
        sent.buffer_unordered(500).collect().await
    }

    /// Sends a CloudEvent, without a message id of its own.
    pub(crate) async fn send_event(&self, body: &Value) {
        let properties = BasicProperties::default()
            .with_content_type("application/cloudevents+json".into())
            .with_reply_to(self.replies.as_str().into());
        self.publish("jobquay.requests", body, properties).await;
    }

    /// Puts a message with headers into a queue.
    pub(crate) async fn send_to(&self, queue: &str, body: &Value, headers: &[(&str, &str)]) {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert((*name).into(), lapin::types::AMQPValue::LongString((*value).into()));
        }
        let properties = BasicProperties::default().with_headers(table).with_reply_to(self.replies.as_str().into());
        self.publish(queue, body, properties).await;
    }

    async fn publish(&self, queue: &str, body: &Value, properties: BasicProperties) {
        let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
        let body = body.to_string();
        let published = self.channel.basic_publish("".into(), queue.into(), mandatory, body.as_bytes(), properties);
        assert!(published.await.expect("a publish").await.expect("a confirm").take_message().is_none());
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> Event {
        self.event_within(PATIENCE).await.expect("an event")
    }

    /// The next event, if it comes within `limit`.
    pub(crate) async fn event_within(&mut self, limit: std::time::Duration) -> Option<Event> {
        let delivery = tokio::time::timeout(limit, self.events.next())
            .await
            .ok()?
            .expect("the reply queue lives")
            .expect("a delivery");
        // Over a connection that has just gone it fails, and the event comes again over the next.
        let _ = delivery.ack(BasicAckOptions::default()).await;
        let properties = &delivery.properties;
        let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
        Some(Event {
            body: Event::parse(&delivery.data),
            correlation_id: text(properties.correlation_id()),
            message_id: text(properties.message_id()),
            persistent: *properties.delivery_mode() == Some(2),
            app_id: text(properties.app_id()),
        })
    }

    /// Takes every message off a queue.
    pub(crate) async fn take_all(&self, queue: &str) -> Vec<BasicGetMessage> {
        let no_ack = BasicGetOptions { no_ack: true };
        let mut messages = Vec::new();
        while let Some(message) = self.channel.basic_get(queue.into(), no_ack).await.expect("an answer") {
            messages.push(message);
        }
        messages
    }

    /// Sends and waits for the answer to it.
    pub(crate) async fn ask(&mut self, request: Request) -> Event {
        let id = self.send(request).await;
        let event = self.event().await;
        assert_eq!(event.request_id(), id, "an answer to something else");
        event
    }

    /// As many events as were asked for.
    pub(crate) async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.event().await);
        }
        events
    }
}

async fn open(url: &str) -> (Connection, Channel) {
    // A broker that has just come back may still refuse.
    let connection = eventually("a producer's connection", async || {
        Connection::connect(url, ConnectionProperties::default()).await.ok()
    })
    .await;
    let channel = connection.create_channel().await.expect("a channel");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
    (connection, channel)
}

/// Nothing is lost that was not read: what a connection takes with it when it goes comes again.
async fn consume(channel: &Channel, queue: &str) -> Consumer {
    channel
        .basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default())
        .await
        .expect("a consumer")
}
