//! The queues that only operators read: what stands there, and its way back.
//!
//! A message is got without an acknowledgement and acknowledged only when the broker has confirmed its
//! copy elsewhere, so whoever dies in between leaves at worst two of it. What was only looked at goes
//! back when the [`Reader`] is closed or its connection ends; the queue should have no delivery limit,
//! because a quorum queue counts that.

mod shown;

use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection};

use super::{CALL_TIMEOUT, Error, Receipt, call, short, topology};

pub use shown::{Shelf, Summary};

/// What [`crate::reply`] puts on a message that it sets aside.
pub const CODE: &str = "jobquay-code";
pub const REASON: &str = "jobquay-reason";
/// When, as RFC 3339.
pub const TIME: &str = "jobquay-time";
/// The address of an answer that could not be delivered.
pub const REPLY_TO: &str = "jobquay-reply-to";
/// The broker lets nobody publish under another's name, so the producer's goes into a header.
pub const USER_ID: &str = "jobquay-user-id";
pub const CONTENT_ENCODING: &str = "jobquay-content-encoding";

/// What the broker and we have put on a message; a second life begins without. `CC` would make copies again.
const TAKEN_OFF: [&str; 13] = [
    CODE,
    REASON,
    TIME,
    REPLY_TO,
    USER_ID,
    CONTENT_ENCODING,
    "CC",
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-delivery-count",
    "x-acquired-count",
];

/// Sets one property.
type With = fn(BasicProperties, ShortString) -> BasicProperties;

/// One message, still on its queue.
pub struct Aside {
    pub body: Vec<u8>,
    properties: BasicProperties,
    tag: u64,
}

/// Reads a queue from its head, each message once.
pub struct Reader {
    queue: &'static str,
    channel: Channel,
    /// Of those that were there at the beginning; what arrives meanwhile is left alone.
    left: u32,
    /// Of those that were read the ones that are still on the queue.
    held: u32,
    last: u64,
}

impl Aside {
    pub(super) fn of(delivery: lapin::message::Delivery) -> Self {
        Self { body: delivery.data, properties: delivery.properties, tag: delivery.delivery_tag }
    }

    pub fn id(&self) -> Option<&str> {
        self.properties.message_id().as_ref().map(ShortString::as_str)
    }

    /// A header as text, if it is there.
    pub fn header(&self, name: &str) -> Option<String> {
        self.properties.headers().as_ref()?.inner().get(name).map(text)
    }

    /// Where its answers go, or where it was to be delivered.
    pub fn reply_to(&self) -> Option<String> {
        self.header(REPLY_TO).or_else(|| self.properties.reply_to().as_ref().map(ToString::to_string))
    }

    /// The code that we gave it, or the word of the broker that parked it.
    pub fn code(&self) -> Option<String> {
        self.header(CODE).or_else(|| self.header("x-first-death-reason"))
    }

    /// The properties by name.
    pub fn named(&self) -> Vec<(&'static str, String)> {
        let p = &self.properties;
        let texts = [
            ("message_id", p.message_id()),
            ("correlation_id", p.correlation_id()),
            ("reply_to", p.reply_to()),
            ("content_type", p.content_type()),
            ("content_encoding", p.content_encoding()),
            ("type", p.kind()),
            ("user_id", p.user_id()),
            ("app_id", p.app_id()),
        ];
        texts.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?.to_string()))).collect()
    }

    /// The headers by name, each as text.
    pub fn headers(&self) -> Vec<(String, String)> {
        let headers = self.properties.headers().iter().flat_map(|headers| headers.inner());
        headers.map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    /// The properties of its second life. `user` is who publishes it: only this name can be kept.
    pub(super) fn properties(&self, user: &str) -> Result<BasicProperties, Error> {
        let given = self.properties.headers().iter().flat_map(|headers| headers.inner());
        let mut headers = FieldTable::default();
        for (name, value) in given.filter(|(name, _)| !TAKEN_OFF.contains(&name.as_str())) {
            headers.insert(name.clone(), value.clone());
        }
        let p = &self.properties;
        let encoding = match self.header(CONTENT_ENCODING) {
            Some(encoding) => Some(short(&encoding)?),
            None => p.content_encoding().clone(),
        };
        let mut kept = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
        let set: [(&Option<ShortString>, With); 7] = [
            (p.message_id(), BasicProperties::with_message_id),
            (p.correlation_id(), BasicProperties::with_correlation_id),
            (p.reply_to(), BasicProperties::with_reply_to),
            (p.content_type(), BasicProperties::with_content_type),
            (&encoding, BasicProperties::with_content_encoding),
            (p.kind(), BasicProperties::with_type),
            (p.app_id(), BasicProperties::with_app_id),
        ];
        for (value, with) in set {
            if let Some(value) = value {
                kept = with(kept, value.clone());
            }
        }
        match self.producer() {
            Some(producer) if producer == user => Ok(kept.with_user_id(short(user)?)),
            _ => Ok(kept),
        }
    }

    /// Who sent it, as far as the broker vouched for that.
    pub fn producer(&self) -> Option<String> {
        self.header(USER_ID).or_else(|| self.properties.user_id().as_ref().map(ToString::to_string))
    }
}

impl Reader {
    pub async fn open(connection: &Connection, queue: &'static str) -> Result<Self, Error> {
        let (left, _) = topology::look(connection, queue).await?;
        let channel = call("open a channel", CALL_TIMEOUT, connection.create_channel()).await?;
        call("select confirms", CALL_TIMEOUT, channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { queue, channel, left, held: 0, last: 0 })
    }

    /// How many of those that were there at the beginning were not read yet.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// The next one. It stays on the queue.
    pub async fn next(&mut self) -> Result<Option<Aside>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let get = self.channel.basic_get(short(self.queue)?, BasicGetOptions::default());
        let Some(got) = call("get a message", CALL_TIMEOUT, get).await? else { return Ok(None) };
        self.held += 1;
        self.last = got.delivery.delivery_tag;
        Ok(Some(Aside::of(got.delivery)))
    }

    /// Publishes the message to the queue `to`, and takes it off this one when the broker has it there.
    pub async fn send_back(&mut self, message: &Aside, to: &str, user: &str) -> Result<Receipt, Error> {
        let mandatory = BasicPublishOptions { mandatory: true, immediate: false };
        let (exchange, to, properties) = (short("")?, short(to)?, message.properties(user)?);
        let published =
            async { self.channel.basic_publish(exchange, to, mandatory, &message.body, properties).await?.await };
        let confirmation = call("publish", CALL_TIMEOUT, published).await?;
        if !confirmation.is_ack() {
            return Ok(Receipt::Refused);
        }
        // One at a time is under way, so what came back is this one.
        if let Some(returned) = confirmation.take_message() {
            return Ok(Receipt::Unroutable { reason: returned.reply_text.to_string() });
        }
        let acked = self.channel.basic_ack(message.tag, BasicAckOptions::default());
        call("acknowledge", CALL_TIMEOUT, acked).await?;
        self.held -= 1;
        Ok(Receipt::Delivered)
    }

    /// Gives back everything that was not taken off, and waits until the broker has it.
    pub async fn close(self) -> Result<(), Error> {
        // The broker closes a channel that gives back nothing.
        if self.held > 0 {
            let all = BasicNackOptions { multiple: true, requeue: true };
            call("give back", CALL_TIMEOUT, self.channel.basic_nack(self.last, all)).await?;
        }
        call("close a channel", CALL_TIMEOUT, self.channel.close(200, short("done")?)).await
    }
}

fn text(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        other => format!("{other:?}"),
    }
}
