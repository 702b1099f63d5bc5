//! The broker as its operator sees it, over the management API.

use std::process::Command;

use serde_json::{Value, json};

use super::stack::STACK;

/// One virtual host.
#[derive(Debug, Clone)]
pub(crate) struct Broker {
    pub(crate) vhost: String,
}

impl Broker {
    /// Makes the virtual host, with the policies that the queues of a real installation have.
    pub(crate) fn create(vhost: &str) -> Self {
        let broker = Self { vhost: vhost.to_owned() };
        broker.send("PUT", &format!("vhosts/{vhost}"), &json!({}));
        broker.send(
            "PUT",
            &format!("permissions/{vhost}/guest"),
            &json!({"configure": ".*", "write": ".*", "read": ".*"}),
        );
        for (queue, limit, target) in [("requests", 20, "poison"), ("poison", 30, "dead")] {
            let policy = json!({
                "pattern": format!("^jobquay\\.{queue}$"), "apply-to": "queues",
                "definition": {
                    "delivery-limit": limit,
                    "dead-letter-exchange": "",
                    "dead-letter-routing-key": format!("jobquay.{target}"),
                    "dead-letter-strategy": "at-least-once",
                    "overflow": "reject-publish",
                },
            });
            broker.send("PUT", &format!("policies/{vhost}/{queue}"), &policy);
        }
        broker
    }

    /// With all its queues: a broker that is restarted takes its time for each.
    pub(crate) fn remove(&self) {
        // It may be away; then they stay.
        let _ = self.call("DELETE", &format!("vhosts/{}", self.vhost), &Value::Null);
    }

    pub(crate) fn url(&self) -> String {
        let (base, _) = STACK.value("AMQP_URL").split_once("/%2f").expect("the stack's URL names the default vhost");
        format!("{base}/{}?heartbeat=10", self.vhost)
    }

    /// `host:port`, for a client that speaks raw frames.
    pub(crate) fn address(&self) -> String {
        let url = self.url();
        let host = url.rsplit_once('@').expect("the URL has a user").1;
        host.split('/').next().expect("splitting gives a part").to_owned()
    }

    pub(crate) fn delete_queue(&self, queue: &str) {
        self.send("DELETE", &format!("queues/{}/{queue}", self.vhost), &json!({}));
    }

    /// What the broker says of a queue; its counts are up to five seconds old.
    pub(crate) fn queue(&self, queue: &str) -> Value {
        self.send("GET", &format!("queues/{}/{queue}", self.vhost), &Value::Null)
    }

    /// The names of those that there are.
    pub(crate) fn queues(&self) -> Vec<String> {
        let queues = self.send("GET", &format!("queues/{}", self.vhost), &Value::Null);
        let name = |queue: &Value| queue["name"].as_str().expect("a queue has a name").to_owned();
        queues.as_array().expect("a list of queues").iter().map(name).collect()
    }

    pub(crate) fn declare(&self, queue: &str, arguments: &Value) {
        let body = json!({"durable": true, "auto_delete": false, "arguments": arguments});
        self.send("PUT", &format!("queues/{}/{queue}", self.vhost), &body);
    }

    pub(crate) fn bind(&self, exchange: &str, queue: &str, routing_key: &str) {
        self.send(
            "POST",
            &format!("bindings/{}/e/{exchange}/q/{queue}", self.vhost),
            &json!({"routing_key": routing_key}),
        );
    }

    pub(crate) fn set_permissions(&self, user: &str, password: &str, write: &str, read: &str) {
        self.send("PUT", &format!("users/{user}"), &json!({"password": password, "tags": ""}));
        let rights = json!({"configure": "^$", "write": write, "read": read});
        self.send("PUT", &format!("permissions/{}/{user}", self.vhost), &rights);
    }

    /// A user with these rights to everything here.
    pub(crate) fn set_user(&self, user: &str, password: &str, rights: &str) {
        self.send("PUT", &format!("users/{user}"), &json!({"password": password, "tags": ""}));
        assert!(self.permit(user, rights), "rights for {user}");
    }

    /// Gives a user other rights; `false` when the broker is away.
    pub(crate) fn permit(&self, user: &str, rights: &str) -> bool {
        let rights = json!({"configure": rights, "write": rights, "read": rights});
        self.call("PUT", &format!("permissions/{}/{user}", self.vhost), &rights).is_ok()
    }

    /// Lets queues of these names take so many messages; `false` when the broker is away.
    pub(crate) fn limit(&self, pattern: &str, messages: u32) -> bool {
        let policy = json!({
            "pattern": pattern, "apply-to": "queues", "definition": {"max-length": messages, "overflow": "reject-publish"},
        });
        self.call("PUT", &format!("policies/{}/limit", self.vhost), &policy).is_ok()
    }

    /// Takes every message off a queue.
    pub(crate) fn drain(&self, queue: &str) -> Vec<Value> {
        self.get(queue, "ack_requeue_false")
    }

    /// Takes every message and hands it back, so that each has been delivered before.
    pub(crate) fn deliver_in_vain(&self, queue: &str) -> usize {
        self.get(queue, "ack_requeue_true").len()
    }

    fn get(&self, queue: &str, mode: &str) -> Vec<Value> {
        let body = json!({"count": 10_000, "ackmode": mode, "encoding": "auto"});
        match self.send("POST", &format!("queues/{}/{queue}/get", self.vhost), &body) {
            Value::Array(messages) => messages,
            other => panic!("{queue}: {other}"),
        }
    }

    /// The names of the connections that the management plugin knows of, which it does some seconds late.
    pub(crate) fn connections(&self) -> Vec<String> {
        let Ok(Value::Array(connections)) =
            self.call("GET", &format!("vhosts/{}/connections", self.vhost), &Value::Null)
        else {
            return Vec::new();
        };
        let name = |connection: &Value| connection["name"].as_str().expect("a connection has a name").to_owned();
        connections.iter().map(name).collect()
    }

    /// Closes all of them, as an operator would; returns how many there were to close.
    pub(crate) fn close_connections(&self) -> usize {
        let names = self.connections().into_iter();
        // One may have gone by itself.
        names
            .map(|name| name.replace(' ', "%20").replace("->", "-%3E"))
            .filter(|name| self.call("DELETE", &format!("connections/{name}"), &json!({})).is_ok())
            .count()
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}/api/{path}", STACK.value("RABBITMQ_MANAGEMENT_URL"));
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--fail-with-body",
            "--max-time",
            "30",
            "-X",
            method,
            "-H",
            "content-type: application/json",
            &url,
        ]);
        if !body.is_null() {
            curl.args(["-d", &body.to_string()]);
        }
        let output = curl.output().expect("curl can be run");
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(format!("{text} {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}
