//! The three links of a dispatcher through Toxiproxy, each of which can be made worse and good again.

use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use url::Url;

use super::dispatcher::free_port;
use super::stack::{STACK, root};
use super::{World, eventually};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    RabbitMq,
    Redis,
    Kubernetes,
}

pub(crate) struct Links {
    child: Child,
    port: u16,
    /// The settings of a dispatcher that goes through them.
    pub(crate) environment: Vec<(&'static str, String)>,
}

impl Links {
    pub(crate) async fn start(world: &World) -> Self {
        let kubernetes = kube::config::Kubeconfig::read_from(STACK.value("KUBECONFIG")).expect("a kubeconfig");
        let server = kubernetes.clusters.first().and_then(|named| named.cluster.clone()?.server).expect("a server");
        let redis = STACK.value("REDIS_URL").to_owned();
        Self::to(&[(Link::RabbitMq, world.broker.url()), (Link::Redis, redis), (Link::Kubernetes, server)]).await
    }

    /// Links to these URLs.
    pub(crate) async fn to(urls: &[(Link, String)]) -> Self {
        let port = free_port();
        let child = Command::new(root().join("target/local/toxiproxy/server"))
            .args(["-host", "127.0.0.1", "-port", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("target/local/toxiproxy/server, which deploy/local/test builds, can be run");
        let mut links = Self { child, port, environment: Vec::new() };
        eventually("Toxiproxy answers", async || links.call("GET", "version", &Value::Null)).await;
        for (link, address) in urls {
            let mut url: Url = address.parse().expect("a URL");
            let upstream = format!("127.0.0.1:{}", url.port().expect("a port"));
            let listen = free_port();
            let proxy = json!({"name": link.name(), "listen": format!("127.0.0.1:{listen}"), "upstream": upstream});
            links.call("POST", "proxies", &proxy).expect("a proxy");
            url.set_port(Some(listen)).expect("it had one");
            links.environment.push((link.variable(), url.to_string()));
        }
        links
    }

    pub(crate) fn environment(&self) -> Vec<(&str, &str)> {
        self.environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }

    /// Adds a toxic, in both directions.
    pub(crate) fn poison(&self, link: Link, kind: &str, attributes: &Value) {
        for stream in ["upstream", "downstream"] {
            let toxic = json!({"name": stream, "type": kind, "stream": stream, "attributes": attributes});
            self.call("POST", &format!("proxies/{}/toxics", link.name()), &toxic).expect("a toxic");
        }
    }

    /// Takes all toxics off.
    pub(crate) fn heal(&self) {
        self.call("POST", "reset", &json!({})).expect("an answer");
    }

    /// The same address leads to another port from now on; the connections over it end.
    pub(crate) fn lead_to(&self, link: Link, port: u16) {
        let proxy = json!({"upstream": format!("127.0.0.1:{port}")});
        self.call("POST", &format!("proxies/{}", link.name()), &proxy).expect("a proxy");
    }

    /// The link begins at another address of this machine from now on, at the same port; the connections over it end.
    pub(crate) fn move_to(&self, link: Link, address: &str) {
        let url: Url = self.url(link).parse().expect("a URL");
        let port = url.port().expect("a port");
        let proxy = json!({"listen": format!("{address}:{port}")});
        self.call("POST", &format!("proxies/{}", link.name()), &proxy).expect("a proxy");
    }

    /// Where a dispatcher finds the part over its link.
    pub(crate) fn url(&self, link: Link) -> &str {
        let found = self.environment.iter().find(|(name, _)| *name == link.variable());
        &found.expect("a link").1
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/{path}", self.port);
        let output = Command::new("curl")
            .args(["-sS", "--fail-with-body", "--max-time", "10", "-X", method, &url, "-d", &body.to_string()])
            .output()
            .expect("curl can be run");
        let text = String::from_utf8_lossy(&output.stdout);
        output.status.success().then(|| serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Link {
    /// The setting that says where a dispatcher finds this part.
    fn variable(self) -> &'static str {
        match self {
            Self::RabbitMq => "JOBQUAY__AMQP__URL",
            Self::Redis => "JOBQUAY__CACHE__URL",
            Self::Kubernetes => "JOBQUAY__KUBERNETES__SERVER",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::RabbitMq => "rabbitmq",
            Self::Redis => "redis",
            Self::Kubernetes => "kubernetes",
        }
    }
}
