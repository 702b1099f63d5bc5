//! The AsyncAPI 3.0 document: queues, exchange, messages and their properties, over the same types.
//!
//! AsyncAPI has no place for the properties of an AMQP message, so they stand in `headers` under their
//! names in camel case, beside the headers of their own: the form in which `$message.header#/replyTo`
//! finds them.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Value, json};

use super::never_null;
use crate::domain::event::{State, wire};
use crate::domain::request::document::{CloudEventDocument, RequestDocument, examples};
use crate::queue::{DEAD, POISON, REQUESTS, UNDELIVERABLE};

const TRACE_PARENT: &str = "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$";

/// The whole of what producers and consumers see.
pub fn asyncapi() -> Value {
    let mut reading = generator(SchemaSettings::draft07().for_deserialize());
    let request = reading.subschema_for::<RequestDocument>();
    let cloud_event = reading.subschema_for::<CloudEventDocument>();
    let mut writing =
        generator(SchemaSettings::draft07().for_serialize().with_transform(RecursiveTransform(never_null)));
    let event = writing.subschema_for::<wire::Event<'static>>();
    let states = generator(SchemaSettings::draft07()).root_schema_for::<State>();
    let mut schemas = reading.take_definitions(true);
    schemas.extend(writing.take_definitions(true));
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "jobquay", "version": "1.0.0",
            "description": "Turns messages on RabbitMQ into Kubernetes Jobs, never computes the same thing twice, and never loses a reply.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {"broker": {"host": "localhost:5672", "protocol": "amqp", "protocolVersion": "0.9.1", "description": "RabbitMQ"}},
        "channels": channels(&words(states.as_value())),
        "operations": operations(),
        "components": {
            "schemas": schemas,
            "messages": messages(&json!(request), &json!(cloud_event), &json!(event)),
        },
    })
}

/// AsyncAPI's own schema language is a superset of draft 07.
fn generator(settings: SchemaSettings) -> SchemaGenerator {
    settings.with(|settings| settings.definitions_path = "/components/schemas".into()).into_generator()
}

/// The values of an enum, whichever way its schema lists them.
pub(super) fn words(schema: &Value) -> Vec<Value> {
    let plain = schema["enum"].as_array().into_iter().flatten().cloned();
    let described = schema["oneOf"].as_array().into_iter().flatten();
    let described = described.flat_map(|choice| match &choice["const"] {
        Value::Null => words(choice),
        word => vec![word.clone()],
    });
    plain.chain(described).collect()
}

fn channels(states: &[Value]) -> Value {
    let queue = |name: &str, description: &str, messages: &[&str]| {
        json!({
            "address": name, "description": description, "messages": named(messages),
            "bindings": {"amqp": {"is": "queue", "queue": {
                "name": name, "durable": true, "exclusive": false, "autoDelete": false, "vhost": "/",
            }, "bindingVersion": "0.3.0"}},
        })
    };
    json!({
        "requests": queue(REQUESTS, "A durable quorum queue with a delivery limit. Publish to it through the default exchange, persistent, mandatory and with publisher confirms.", &["request", "cloudEventRequest"]),
        "replies": {
            "address": null,
            "description": "The queue that the request named in its property reply_to, reached through the default exchange.",
            "messages": named(&["event"]),
        },
        "events": {
            "address": "job.{state}.{template}",
            "description": "The topic exchange of the setting `events.exchange`, where it is set. It is sent events of all kinds, best effort: one that it does not take is not kept, and after it none is sent for 60 s. Its address is the routing key.",
            "parameters": {
                "state": {"enum": states},
                "template": {"description": "The template's name, or `inline`; `unknown` where the request was not understood so far."},
            },
            "messages": named(&["event"]),
            "bindings": {"amqp": {"is": "routingKey", "exchange": {
                "name": "jobquay.events", "type": "topic", "durable": true, "autoDelete": false, "vhost": "/",
            }, "bindingVersion": "0.3.0"}},
        },
        "poison": queue(POISON, "Requests that the broker gave up after too many deliveries. The dispatcher consumes it and answers them `rejected` with `request.poison`.", &["request", "cloudEventRequest"]),
        "dead": queue(DEAD, "Requests that could not be told of their refusal, and copies of those that were given up, for an operator.", &["deadRequest"]),
        "undeliverable": queue(UNDELIVERABLE, "Events whose reply queue did not take them, for an operator.", &["undeliverableEvent"]),
    })
}

fn named(messages: &[&str]) -> Value {
    messages
        .iter()
        .map(|name| ((*name).to_owned(), json!({"$ref": format!("#/components/messages/{name}")})))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn operations() -> Value {
    let send = |channel: &str, messages: &[&str], summary: &str| {
        json!({
            "action": "send", "channel": {"$ref": format!("#/channels/{channel}")}, "summary": summary,
            "messages": on(channel, messages),
            "bindings": {"amqp": {"deliveryMode": 2, "mandatory": channel != "events", "ack": true, "bindingVersion": "0.3.0"}},
        })
    };
    json!({
        "takeRequest": {
            "action": "receive", "channel": {"$ref": "#/channels/requests"},
            "summary": "A request is answered with an event that ends it, which can come twice; where it asks for `events: all`, others may come too.",
            "messages": on("requests", &["request", "cloudEventRequest"]),
            "bindings": {"amqp": {"ack": true, "bindingVersion": "0.3.0"}},
            "reply": {
                "address": {"location": "$message.header#/replyTo"},
                "channel": {"$ref": "#/channels/replies"},
                "messages": on("replies", &["event"]),
            },
        },
        "tellEveryone": send("events", &["event"], "Events of all kinds, best effort, also those that end nothing."),
        "bury": send("dead", &["deadRequest"], "A request that was refused and could not be told so, that was given up, or that somebody else put into a lane."),
        "setAside": send("undeliverable", &["undeliverableEvent"], "An event that its reply queue did not take."),
    })
}

fn on(channel: &str, messages: &[&str]) -> Value {
    messages.iter().map(|name| json!({"$ref": format!("#/channels/{channel}/messages/{name}")})).collect()
}

fn messages(request: &Value, cloud_event: &Value, event: &Value) -> Value {
    let asked = json!({
        "messageId": {"type": "string", "maxLength": 200, "description": "The request id and idempotency key; made when absent."},
        "replyTo": {"type": "string", "maxLength": 255, "description": "The queue that gets the events, or `amq.rabbitmq.reply-to` (best effort)."},
        "correlationId": {"type": "string", "maxLength": 255, "description": "Echoed byte for byte."},
        "userId": {"type": "string", "description": "The producer, checked by the broker; policy is chosen by it."},
        "deliveryMode": {"const": 2, "description": "Persistent."},
        "traceparent": {"type": "string", "pattern": TRACE_PARENT},
        "tracestate": {"type": "string", "maxLength": 512},
    });
    let told = json!({
        "messageId": {"type": "string", "description": "The event's id: the same for every copy of it."},
        "correlationId": {"type": "string", "description": "That of the request."},
        "type": {"type": "string", "pattern": "^dev\\.jobquay\\.job\\.[a-z]+\\.v1$"},
        "appId": {"type": "string", "pattern": "^jobquay/"},
        "deliveryMode": {"const": 2},
        "traceparent": {"type": "string", "pattern": TRACE_PARENT},
        "tracestate": {"type": "string"},
    });
    let reason = json!({"type": "string", "description": "A sentence for a person."});
    let mut buried = with(
        &asked,
        &json!({
            "jobquay-code": {"type": "string", "description": "As `error.code` of an event."},
            "jobquay-reason": reason,
            "jobquay-time": {"type": "string", "format": "date-time"},
            "jobquay-user-id": {"type": "string", "description": "The producer: the property user_id of the request."},
            "jobquay-content-encoding": {"type": "string", "description": "Of the request."},
        }),
    );
    // The broker takes no other user's name from a dispatcher.
    buried.as_object_mut().expect("it is made as an object").remove("userId");
    let aside = with(
        &told,
        &json!({"jobquay-reply-to": {"type": "string", "description": "Where it was to go."}, "jobquay-reason": reason}),
    );
    let example = |payload: &Value| json!({"headers": {"messageId": "order-7", "replyTo": "shop.replies", "correlationId": "order-7", "deliveryMode": 2}, "payload": payload});
    let requests: Vec<_> = examples().as_array().into_iter().flatten().map(example).collect();
    let wrapped = example(
        &json!({"specversion": "1.0", "source": "//shop", "id": "42", "type": "shop.order", "data": {"template": "hello", "params": {"name": "Ada"}}}),
    );
    json!({
        "request": message("A request", "application/json", &asked, request, &requests),
        "cloudEventRequest": message("A request as the data of a CloudEvent", "application/cloudevents+json", &asked, cloud_event, &[wrapped]),
        "event": message("An event", "application/cloudevents+json", &told, event, &[example_event()]),
        "deadRequest": message("A request that could not be answered", "application/octet-stream", &buried, &json!({}), &[]),
        "undeliverableEvent": message("An event that could not be delivered", "application/cloudevents+json", &aside, event, &[]),
    })
}

fn message(title: &str, content_type: &str, headers: &Value, payload: &Value, examples: &[Value]) -> Value {
    let mut message = json!({
        "title": title, "contentType": content_type, "headers": {"type": "object", "properties": headers}, "payload": payload,
        "correlationId": {"location": "$message.header#/correlationId"},
        "bindings": {"amqp": {"contentEncoding": "utf-8", "bindingVersion": "0.3.0"}},
    });
    if !examples.is_empty() {
        message["examples"] = json!(examples);
    }
    message
}

fn with(properties: &Value, more: &Value) -> Value {
    [properties, more]
        .into_iter()
        .filter_map(Value::as_object)
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn example_event() -> Value {
    json!({
        "headers": {"messageId": "order-7/6592aec2/succeeded", "correlationId": "order-7", "type": "dev.jobquay.job.succeeded.v1", "appId": "jobquay/0.1.0", "deliveryMode": 2},
        "payload": {
            "specversion": "1.0", "id": "order-7/6592aec2/succeeded", "source": "//jobquay/local",
            "type": "dev.jobquay.job.succeeded.v1", "subject": "order-7", "time": "2026-11-24T10:46:30.044Z",
            "datacontenttype": "application/json", "correlationid": "order-7",
            "data": {
                "request_id": "order-7", "state": "succeeded", "terminal": true, "served_by": "executed", "template": "hello",
                "key": "sha256:2d9bd3be7ea1f2b257ea8af13eca3ca794ab81cb147cb9c35c8b4139ccccfdd7",
                "job": {"namespace": "work", "name": "jq-hello-fwn5hpt6uhzlev7krlyt5sr4u6", "uid": "7c48b8f3-5b0e-4c53-a4a2-64f2e7a0a4a7", "attempts": 1},
                "result": {
                    "content_type": "application/json", "bytes": 16, "json": {"hello": "Ada"}, "age_seconds": 0,
                    "sha256": "9e08c1819350ff1e75ec41e6a5f30ed6c9b05e2269bcaaeae6ebf63de5169a07",
                },
                "timings": {"received_at": "2026-11-24T10:46:27.001Z", "finished_at": "2026-11-24T10:46:29.980Z"},
            },
        },
    })
}
