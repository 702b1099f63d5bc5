//! Each thing that can be asked, with its answers.

use serde_json::{Value, json};

use super::{IN_CACHE, IN_OPERATIONS, IN_REQUESTS, IN_TEMPLATES, JSON, Maker, Operation};
use crate::cache::{KeptResult, Shares};
use crate::domain::request::document::{CloudEventDocument, RequestDocument};
use crate::domain::status::Status;
use crate::http::{asking, cache, logs, queues, requests, system, templates};

impl Maker {
    pub(super) fn of_requests(&mut self) {
        let id = || in_path("id", "The request's id: its `message_id`, or that of its CloudEvent.");
        let (asked, wrapped) = (self.read::<RequestDocument>(), self.read::<CloudEventDocument>());
        let body = json!({"required": true, "content": {JSON: {"schema": asked}, "application/cloudevents+json": {"schema": wrapped}}});
        let key = json!({"name": "Idempotency-Key", "in": "header", "description": "The request id; made when absent. A call that is made again with it asks for nothing more.", "schema": {"type": "string", "maxLength": 200}});
        let (parameters, answer) = (self.query::<requests::Wanted>(), self.json::<requests::Listed>());
        self.add(Operation {
            parameters,
            ..get(
                "/api/v1/requests",
                "listRequests",
                IN_REQUESTS,
                "Requests that fit a filter, the latest first.",
                answer,
            )
        });
        let answer = self.json::<asking::Submitted>();
        self.add(Operation {
            parameters: vec![key],
            body: Some(body),
            status: "202",
            refusals: &["413", "422"],
            ..post(
                "/api/v1/requests",
                "submitRequest",
                IN_REQUESTS,
                "Puts a request into the queue, in the name of the dispatcher's own user.",
                answer,
            )
        });
        let answer = self.json::<Status>();
        self.add(Operation {
            parameters: vec![id()],
            refusals: &["404"],
            ..get(
                "/api/v1/requests/{id}",
                "getRequest",
                IN_REQUESTS,
                "Where a request is, and what it waits for.",
                answer,
            )
        });
        let stream = json!({"text/event-stream": {"schema": {"type": "string"}}});
        self.add(Operation { parameters: vec![id()], refusals: &["404"], ..get("/api/v1/requests/{id}/events", "followRequest", IN_REQUESTS, "Server-sent events until it has ended: `status` whenever it is another one, and `event` with each event that was sent.", stream) });
        let (mut parameters, text) =
            (self.query::<logs::Wanted>(), json!({"text/plain": {"schema": {"type": "string"}}}));
        parameters.insert(0, id());
        self.add(Operation {
            parameters,
            refusals: &["404"],
            ..get(
                "/api/v1/requests/{id}/logs",
                "readLog",
                IN_REQUESTS,
                "What the last pod of its Job has written.",
                text,
            )
        });
        let answer = self.json::<asking::CancelOutcome>();
        self.add(Operation {
            parameters: vec![id()],
            refusals: &["404", "409"],
            ..post(
                "/api/v1/requests/{id}/cancel",
                "cancelRequest",
                IN_REQUESTS,
                "Takes it off its Job, which ends where nobody else waits for it.",
                answer,
            )
        });
        let (mut parameters, answer) = (self.query::<asking::Again>(), self.json::<asking::Submitted>());
        parameters.insert(0, id());
        self.add(Operation {
            parameters,
            status: "202",
            refusals: &["404", "409", "422"],
            ..post(
                "/api/v1/requests/{id}/retry",
                "retryRequest",
                IN_REQUESTS,
                "Asks for the same once more, under an id of its own and without a reply.",
                answer,
            )
        });
    }

    pub(super) fn of_the_cache(&mut self) {
        let key = || in_path("key", "`sha256:` and 64 hex digits, or the digits alone.");
        let (parameters, answer) = (self.query::<cache::Of>(), self.json::<Shares>());
        self.add(Operation {
            parameters,
            ..get("/api/v1/cache", "countResults", IN_CACHE, "What is kept, by template.", answer)
        });
        let (mut parameters, answer) = (self.query::<cache::Of>(), self.json::<cache::Removed>());
        parameters.iter_mut().for_each(|parameter| parameter["required"] = json!(true));
        self.add(Operation {
            parameters,
            method: "delete",
            ..get("/api/v1/cache", "removeResults", IN_CACHE, "Removes all results of a template.", answer)
        });
        let answer = self.json::<KeptResult>();
        self.add(Operation {
            parameters: vec![key()],
            refusals: &["404"],
            ..get("/api/v1/cache/{key}", "getResult", IN_CACHE, "What is known of a kept result.", answer)
        });
        let answer = self.json::<cache::Removed>();
        self.add(Operation {
            parameters: vec![key()],
            method: "delete",
            ..get(
                "/api/v1/cache/{key}",
                "removeResult",
                IN_CACHE,
                "Removes it; the next request of its key runs a Job.",
                answer,
            )
        });
    }

    pub(super) fn of_templates(&mut self) {
        let name = || in_path("name", "The template's.");
        let answer = self.json::<templates::Templates>();
        self.add(get("/api/v1/templates", "listTemplates", IN_TEMPLATES, "What can be asked for.", answer));
        let answer = self.json::<templates::TemplateView>();
        self.add(Operation {
            parameters: vec![name()],
            refusals: &["404"],
            ..get("/api/v1/templates/{name}", "getTemplate", IN_TEMPLATES, "One template.", answer)
        });
        let body = json!({"content": {JSON: {"schema": {"type": "object", "description": "The parameters."}}}});
        let answer = self.json::<templates::Rendered>();
        self.add(Operation {
            parameters: vec![name()],
            body: Some(body),
            refusals: &["413", "422"],
            ..post(
                "/api/v1/templates/{name}/render",
                "renderTemplate",
                IN_TEMPLATES,
                "The Job that would run, and its key. Nothing is run.",
                answer,
            )
        });
    }

    pub(super) fn of_operations(&mut self) {
        let answer = self.json::<queues::Queues>();
        self.add(get("/api/v1/queues", "listQueues", IN_OPERATIONS, "How much stands in the queues.", answer));
        let (parameters, answer) = (self.query::<queues::Wanted>(), self.json::<queues::SetAside>());
        self.add(Operation {
            parameters,
            ..get(
                "/api/v1/dead",
                "listDead",
                IN_OPERATIONS,
                "What could be neither answered nor run, or not delivered; nothing is taken off.",
                answer,
            )
        });
        let id = in_path("id", "The message's.");
        let (mut parameters, answer) = (self.query::<queues::Wanted>(), self.json::<queues::Requeued>());
        parameters.retain(|parameter| parameter["name"] == "queue");
        parameters.insert(0, id);
        self.add(Operation {
            parameters,
            refusals: &["404", "409"],
            ..post(
                "/api/v1/dead/{id}/requeue",
                "requeueDead",
                IN_OPERATIONS,
                "Publishes it again: a request to its queue, an answer to its reply address.",
                answer,
            )
        });
        let answer = self.json::<system::System>();
        self.add(get(
            "/api/v1/system",
            "getSystem",
            IN_OPERATIONS,
            "Whether all is well with this dispatcher.",
            answer,
        ));
        let document = json!({JSON: {"schema": {"type": "object"}}});
        self.add(get("/api/v1/openapi.json", "getOpenapi", IN_OPERATIONS, "This document.", document));
    }
}

fn get(path: &'static str, id: &'static str, tag: &'static str, summary: &'static str, answer: Value) -> Operation {
    let (parameters, body) = (Vec::new(), None);
    Operation { method: "get", path, id, tag, summary, parameters, body, status: "200", answer, refusals: &[] }
}

fn post(path: &'static str, id: &'static str, tag: &'static str, summary: &'static str, answer: Value) -> Operation {
    Operation { method: "post", ..get(path, id, tag, summary, answer) }
}

fn in_path(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": description, "schema": {"type": "string", "minLength": 1}})
}
