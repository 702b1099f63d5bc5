//! Pending queues, one for each lane: where requests wait for which no slot is free.
//!
//! A request is parked as it came, with what the broker said of it in headers: who sent it, and when.
//! Anyone who may publish through the default exchange could write such headers, so a parked request
//! also carries the broker-validated name of the dispatcher's own user, and counts for nothing without.

use std::sync::Arc;

use jiff::Timestamp;

use super::delivery::header;
use super::publisher::Wary;
use super::{Error, Message, Publisher, Receipt};
use crate::config::Amqp;
use crate::domain::request::Arrival;

const PRODUCER: &str = "jobquay-user-id";
const RECEIVED_AT: &str = "jobquay-received-at";
/// There when the request had been delivered before, so that nobody knows what came of it.
const IN_DOUBT: &str = "jobquay-in-doubt";
/// When a call was made last, or may have been, that may put the request on a Job, and had no answer; in the API server's
/// time.
const UNDECIDED: &str = "jobquay-undecided";
/// The same where it was made.
const UNANSWERED: &str = "jobquay-unanswered";

/// What is not known of a request that is parked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Doubt {
    /// What came of deliveries before its first one here.
    pub earlier: bool,
    /// What came of a call for it that may have been made at this time, in the API server's.
    pub undecided: Option<Timestamp>,
    /// What came of one that was.
    pub unanswered: Option<Timestamp>,
}

/// The queue of a lane.
pub fn pending_queue(lane: &str) -> String {
    format!("jobquay.pending.{lane}")
}

/// Parks requests under the dispatcher's own name.
#[derive(Debug, Clone)]
pub struct Parking {
    publisher: Wary,
    user: String,
}

impl Parking {
    pub fn new(config: &Amqp, publisher: Publisher) -> Self {
        Self { publisher: Wary::new(publisher), user: own_user(config) }
    }

    /// Returns when the broker has the request in the lane's queue, under the id that it goes by.
    pub async fn park(&self, arrival: &Arrival, id: &str, lane: &str, doubt: Doubt) -> Result<(), Error> {
        match self.publisher.publish(message(arrival, id, lane, &self.user, doubt)).await? {
            Receipt::Delivered => Ok(()),
            _ => Err(Error::Untaken(pending_queue(lane))),
        }
    }
}

/// The request as it lies in the lane; `own_user` is who puts it there. Its `id` need not be that of the message: a
/// CloudEvent brings its own.
pub(super) fn message(arrival: &Arrival, id: &str, lane: &str, own_user: &str, doubt: Doubt) -> Message {
    let mut headers = vec![(RECEIVED_AT, arrival.received_at.to_string())];
    headers.extend(doubt.earlier.then(|| (IN_DOUBT, true.to_string())));
    headers.extend(doubt.undecided.map(|at| (UNDECIDED, at.to_string())));
    headers.extend(doubt.unanswered.map(|at| (UNANSWERED, at.to_string())));
    headers.extend(arrival.user_id.clone().map(|user| (PRODUCER, user)));
    headers.extend(arrival.trace().into_iter().filter_map(|(name, value)| Some((name, value?.clone()))));
    Message {
        id: id.to_owned(),
        exchange: String::new(),
        routing_key: pending_queue(lane),
        body: Arc::new(arrival.body.clone()),
        content_type: arrival.content_type.clone().unwrap_or_default().into(),
        correlation_id: arrival.correlation_id.clone(),
        reply_to: arrival.reply_to.clone(),
        kind: None,
        user_id: Some(own_user.to_owned()),
        headers,
        mandatory: true,
    }
}

/// The name that the broker knows this dispatcher by.
pub(super) fn own_user(config: &Amqp) -> String {
    let user = config.url.expose().username();
    // Without one in its URL the client logs in as the broker's default user.
    if user.is_empty() { "guest".to_owned() } else { percent_decoded(user) }
}

fn percent_decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("user={}", text.replace('+', "%2B")).as_bytes())
        .next()
        .map_or_else(String::new, |(_, user)| user.into_owned())
}

/// A parked request as it came first; `false` where somebody else has put the message into the lane.
pub(super) fn unpark(arrival: &mut Arrival, headers: Option<&lapin::types::FieldTable>, own_user: &str) -> bool {
    if arrival.user_id.as_deref() != Some(own_user) {
        return false;
    }
    let text = |name: &str| headers.and_then(|headers| header(headers, name));
    arrival.user_id = text(PRODUCER);
    if let Some(received_at) = text(RECEIVED_AT).and_then(|text| text.parse::<Timestamp>().ok()) {
        arrival.received_at = received_at;
    }
    arrival.content_type = arrival.content_type.take().filter(|content_type| !content_type.is_empty());
    arrival.parked = true;
    arrival.in_doubt = text(IN_DOUBT).is_some();
    // What is no time was just now, as far as anybody knows.
    let time = |name| text(name).map(|at| at.parse().unwrap_or(Timestamp::MAX));
    arrival.undecided = time(UNDECIDED);
    arrival.unanswered = time(UNANSWERED);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_user_is_the_one_of_the_url() {
        let user = |url: &str| {
            let layered =
                crate::config::Layered::load(None, [("JOBQUAY__AMQP__URL".to_owned(), url.to_owned())], &[]).unwrap();
            own_user(&layered.config().unwrap().amqp)
        };
        assert_eq!(user("amqp://jobquay:secret@broker/%2f"), "jobquay");
        assert_eq!(user("amqp://a%40b+c:secret@broker/%2f"), "a@b+c");
        assert_eq!(user("amqp://broker/%2f"), "guest");
    }
}
