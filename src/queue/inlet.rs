//! Requests that this process puts into the queue itself, under its own name: for those who ask over HTTP.

use std::sync::Arc;

use super::pending::own_user;
use super::{Error, Message, Publisher, REQUESTS, Receipt};
use crate::config::Amqp;
use crate::domain::request::Arrival;

#[derive(Debug, Clone)]
pub struct Inlet {
    publisher: Publisher,
    user: String,
}

impl Inlet {
    pub fn new(config: &Amqp, publisher: Publisher) -> Self {
        Self { publisher, user: own_user(config) }
    }

    /// By which the policy knows who asks through here.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns when the broker has the request.
    pub async fn put(&self, arrival: &Arrival) -> Result<(), Error> {
        let id = arrival.id.as_str().to_owned();
        let message = Message {
            correlation_id: Some(id.clone()),
            id,
            exchange: String::new(),
            routing_key: REQUESTS.to_owned(),
            body: Arc::new(arrival.body.clone()),
            content_type: arrival.content_type.clone().unwrap_or_default().into(),
            reply_to: None,
            kind: None,
            user_id: Some(self.user.clone()),
            headers: Vec::new(),
            mandatory: true,
        };
        match self.publisher.publish(message).await? {
            Receipt::Delivered => Ok(()),
            _ => Err(Error::Untaken(REQUESTS.to_owned())),
        }
    }
}
