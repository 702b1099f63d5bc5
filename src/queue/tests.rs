//! What stands in queues, held against tests/fixtures/v1: an earlier or a later release may have put it there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde::Deserialize;

use super::acks::ledger;
use super::aside::{self, Aside};
use super::delivery::Origin;
use super::{Delivery, Doubt, Message, overflow, pending, short};

/// A message as it lies in a queue.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    message_id: String,
    content_type: String,
    correlation_id: String,
    reply_to: String,
    user_id: Option<String>,
    headers: BTreeMap<String, String>,
    body: String,
}

fn stored(name: &str) -> Stored {
    let path = format!("{}/tests/fixtures/v1/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

impl Stored {
    fn delivery(&self) -> lapin::message::Delivery {
        let mut headers = FieldTable::default();
        for (name, value) in &self.headers {
            headers.insert(short(name).unwrap(), AMQPValue::LongString(value.as_str().into()));
        }
        let mut properties = BasicProperties::default()
            .with_message_id(short(&self.message_id).unwrap())
            .with_content_type(short(&self.content_type).unwrap())
            .with_correlation_id(short(&self.correlation_id).unwrap())
            .with_reply_to(short(&self.reply_to).unwrap())
            .with_headers(headers);
        if let Some(user) = &self.user_id {
            properties = properties.with_user_id(short(user).unwrap());
        }
        let body = self.body.clone().into_bytes();
        let mut delivery = lapin::message::Delivery::mock(1, short("").unwrap(), short("").unwrap(), false, body);
        delivery.properties = properties;
        delivery
    }

    /// Whether this is what is published now.
    fn assert_is(&self, message: &Message) {
        let headers: BTreeMap<_, _> =
            message.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        assert_eq!(headers, self.headers);
        assert_eq!(message.body.as_ref(), self.body.as_bytes());
        assert_eq!((&message.id, message.content_type.as_ref()), (&self.message_id, self.content_type.as_str()));
        assert_eq!(message.correlation_id.as_ref(), Some(&self.correlation_id));
        assert_eq!(message.reply_to.as_ref(), Some(&self.reply_to));
        assert_eq!(message.user_id, self.user_id);
    }
}

#[test]
fn a_request_that_a_lane_holds_is_read_as_it_came_and_parked_in_the_same_form() {
    let stored = stored("parked-request.json");
    let delivery = Delivery::of_lane(stored.delivery(), 1, "jobquay", ledger().0);
    assert_eq!(delivery.origin, Origin::Lane);
    let arrival = &delivery.arrival;
    assert!(arrival.parked);
    assert_eq!(arrival.user_id.as_deref(), Some("anna"));
    assert_eq!(arrival.received_at, "2026-11-24T10:00:00Z".parse::<Timestamp>().unwrap());
    assert_eq!(arrival.tracestate.as_deref(), Some("a=b"));
    // All else is there too, or it would not come out again.
    let again = pending::message(arrival, &stored.message_id, "default", "jobquay", Doubt::default());
    stored.assert_is(&again);
    assert_eq!(again.routing_key, "jobquay.pending.default");
    assert!(!arrival.in_doubt);
}

#[test]
fn a_request_has_its_place_from_when_it_came_and_none_from_a_time_that_is_to_come() {
    let mut stored = stored("parked-request.json");
    let delivery = |stored: &Stored| Delivery::of_lane(stored.delivery(), 1, "jobquay", ledger().0);
    let before = delivery(&stored);
    assert_eq!(before.since, before.arrival.received_at);
    stored.headers.insert("jobquay-received-at".to_owned(), "2999-01-01T00:00:00Z".to_owned());
    let after = delivery(&stored);
    assert!(after.since <= jiff::Timestamp::now() && after.arrival.received_at > jiff::Timestamp::now());
}

#[test]
fn what_is_not_known_of_a_request_goes_with_it_into_its_lane_and_comes_out_of_it() {
    let mut stored = stored("parked-request.json");
    let arrival = |stored: &Stored| Delivery::of_lane(stored.delivery(), 1, "jobquay", ledger().0).arrival;
    let certain = arrival(&stored);
    let [before, at] = ["2026-11-24T10:00:30Z", "2026-11-24T10:01:00Z"].map(|at| at.parse::<Timestamp>().unwrap());
    let parked = |doubt| pending::message(&certain, &stored.message_id, "default", "jobquay", doubt).headers;
    let added: Vec<_> = {
        let without = parked(Doubt::default());
        let with = parked(Doubt { earlier: true, undecided: Some(at), unanswered: Some(before) });
        with.into_iter().filter(|header| !without.contains(header)).collect()
    };
    let [at_text, before_text] = [at, before].map(|at| at.to_string());
    let expected =
        [("jobquay-in-doubt", "true"), ("jobquay-undecided", &at_text), ("jobquay-unanswered", &before_text)];
    assert_eq!(added, expected.map(|(name, value)| (name, value.to_owned())));
    assert_eq!((certain.in_doubt, certain.undecided, certain.unanswered), (false, None, None));
    stored.headers.extend(added.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let doubtful = arrival(&stored);
    assert_eq!((doubtful.in_doubt, doubtful.undecided, doubtful.unanswered), (true, Some(at), Some(before)));
    // As it was written once.
    stored.headers.insert("jobquay-undecided".to_owned(), "true".to_owned());
    assert_eq!(arrival(&stored).undecided, Some(Timestamp::MAX), "no longer ago than now");
}

#[test]
fn a_request_that_was_set_aside_is_read_with_its_reason_and_sent_again_as_it_came() {
    let stored = stored("set-aside-request.json");
    let aside = Aside::of(stored.delivery());
    assert_eq!(aside.producer().as_deref(), Some("anna"));
    assert_eq!(aside.code().as_deref(), Some("request.poison"));
    assert_eq!(aside.header(aside::REASON).as_deref(), Some("given up"));
    assert_eq!(aside.header(aside::TIME).as_deref(), Some("2026-11-24T10:05:00Z"));
    let again = aside.properties("anna").unwrap();
    let names: Vec<_> = again.headers().as_ref().unwrap().inner().keys().map(ToString::to_string).collect();
    assert_eq!(names, ["traceparent", "tracestate"], "and nothing of ours");
    let text = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
    assert_eq!(text(again.message_id()), Some(stored.message_id));
    assert_eq!(text(again.correlation_id()), Some(stored.correlation_id));
    assert_eq!(text(again.reply_to()), Some(stored.reply_to));
    assert_eq!(text(again.content_type()), Some(stored.content_type));
    assert_eq!(text(again.user_id()).as_deref(), Some("anna"));
    assert_eq!(aside.body, stored.body.as_bytes());
}

#[test]
fn the_waiters_of_a_job_have_their_queue() {
    assert_eq!(overflow::queue_name("jq-echo-x", "u-1"), "jobquay.waiters.jq-echo-x.u-1");
}
