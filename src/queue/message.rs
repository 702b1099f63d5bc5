//! A message to publish, in no protocol's types until it is sent.

use std::borrow::Cow;
use std::sync::Arc;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use super::{Error, short};

/// Always persistent. The id is the same for every try, so that receivers can tell a repetition.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: String,
    /// `""` is the default exchange, which routes to the queue named by the routing key.
    pub exchange: String,
    pub routing_key: String,
    pub body: Arc<Vec<u8>>,
    pub content_type: Cow<'static, str>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<String>,
    /// The AMQP property `type`.
    pub kind: Option<&'static str>,
    /// Only ever the own name: the broker ends the channel over any other.
    pub user_id: Option<String>,
    /// Text values only: these survive the conversion to AMQP 1.0.
    pub headers: Vec<(&'static str, String)>,
    /// Whether the broker must return it when no queue takes it.
    pub mandatory: bool,
}

const PERSISTENT: u8 = 2;

impl Message {
    pub(super) fn properties(&self) -> Result<BasicProperties, Error> {
        let mut properties = BasicProperties::default()
            .with_message_id(short(&self.id)?)
            .with_content_type(short(&self.content_type)?)
            .with_delivery_mode(PERSISTENT)
            .with_app_id(short(concat!("jobquay/", env!("CARGO_PKG_VERSION")))?);
        if !self.headers.is_empty() {
            let mut headers = FieldTable::default();
            for (name, value) in &self.headers {
                headers.insert(short(name)?, AMQPValue::LongString(value.as_str().into()));
            }
            properties = properties.with_headers(headers);
        }
        if let Some(correlation_id) = &self.correlation_id {
            properties = properties.with_correlation_id(short(correlation_id)?);
        }
        if let Some(reply_to) = &self.reply_to {
            properties = properties.with_reply_to(short(reply_to)?);
        }
        if let Some(user_id) = &self.user_id {
            properties = properties.with_user_id(short(user_id)?);
        }
        if let Some(kind) = self.kind {
            properties = properties.with_type(short(kind)?);
        }
        Ok(properties)
    }
}
