//! A RabbitMQ of three nodes, of a test's own: each can be killed and comes back with what it had.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::net::TcpStream;

use super::dispatcher::free_port;
use super::eventually;
use super::stack::{STACK, root};

const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";
const NODES: usize = 3;

pub(crate) struct BrokerCluster {
    dir: PathBuf,
    /// Erlang's port mapper: one that it starts by itself would be shared, and would outlive the nodes.
    mapper: Child,
    mapper_port: u16,
    nodes: [Node; NODES],
}

struct Node {
    name: String,
    port: u16,
    child: Option<Child>,
}

impl BrokerCluster {
    /// All nodes, and each knows of the others.
    pub(crate) async fn start() -> Self {
        let mapper_port = free_port();
        let dir = STACK.dir.join(format!("brokers-{mapper_port}"));
        fs::create_dir_all(&dir).expect("a folder");
        secret(&dir.join(".erlang.cookie"));
        let mapper = Command::new("epmd")
            .args(["-port", &mapper_port.to_string(), "-address", "127.0.0.1"])
            .spawn()
            .expect("epmd can be run");
        let node = |number: usize| Node { name: format!("node{number}@localhost"), port: free_port(), child: None };
        let mut cluster = Self { dir, mapper, mapper_port, nodes: std::array::from_fn(node) };
        listens(mapper_port).await;
        // The others join the first.
        for number in 0..NODES {
            cluster.begin(number).await;
        }
        cluster.whole().await;
        cluster
    }

    pub(crate) fn url(&self, number: usize) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f?heartbeat=10", self.nodes[number].port)
    }

    pub(crate) fn port(&self, number: usize) -> u16 {
        self.nodes[number].port
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, number: usize) {
        let Some(mut child) = self.nodes[number].child.take() else { return };
        child.kill().expect("it can be killed");
        child.wait().expect("it has ended");
    }

    /// Starts it, and waits until it takes connections.
    pub(crate) async fn begin(&mut self, number: usize) {
        let node = &self.nodes[number];
        let home = self.dir.join(&node.name);
        fs::create_dir_all(&home).expect("a folder");
        let file = |name: &str, text: &str| {
            fs::write(home.join(name), text).expect("a file");
            home.join(name)
        };
        let peers = self.nodes.iter().enumerate();
        let peers: String = peers
            .map(|(at, peer)| format!("cluster_formation.classic_config.nodes.{} = {}\n", at + 1, peer.name))
            .collect();
        let config = format!(
            "listeners.tcp.1 = 127.0.0.1:{}\nload_definitions = {}\ndisk_free_limit.absolute = 50MB\n\
             vm_memory_high_watermark.relative = 0.1\n\
             cluster_formation.peer_discovery_backend = classic_config\n{peers}",
            node.port,
            root().join("deploy/rabbitmq/definitions.json").display(),
        );
        let log = File::options().create(true).append(true).open(home.join("log")).expect("a log file");
        let mut command = self.command("rabbitmq-server");
        command
            // The script becomes the broker instead of a parent of it.
            .env("RUNNING_UNDER_SYSTEMD", "true")
            .env("RABBITMQ_CONF_ENV_FILE", home.join("none"))
            .env("RABBITMQ_ADVANCED_CONFIG_FILE", home.join("none"))
            .env("RABBITMQ_CONFIG_FILES", home.join("none"))
            .env("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf", &config))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", file("plugins", "[].\n"))
            .env("RABBITMQ_NODENAME", &node.name)
            .env("RABBITMQ_DIST_PORT", free_port().to_string())
            .env("RABBITMQ_MNESIA_BASE", &home)
            .env("RABBITMQ_LOGS", "-")
            .env("RABBITMQ_LOG_BASE", &home)
            .env("ERL_CRASH_DUMP_SECONDS", "0")
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}")
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        let port = node.port;
        self.nodes[number].child = Some(command.spawn().expect("rabbitmq-server can be run"));
        listens(port).await;
    }

    /// Waits until every node runs and sees the others.
    pub(crate) async fn whole(&self) {
        for node in &self.nodes {
            eventually("the nodes see each other", async || {
                let status = self.ask(node, &["cluster_status"])?;
                (status["running_nodes"].as_array()?.len() == NODES).then_some(())
            })
            .await;
        }
    }

    /// The number of the node that leads a quorum queue, as this one knows.
    pub(crate) async fn leader(&self, queue: &str, number: usize) -> usize {
        eventually("the queue has a leader", async || {
            let queues = self.ask(&self.nodes[number], &["list_queues", "name", "leader"])?;
            let leader = queues.as_array()?.iter().find(|row| row["name"] == queue)?["leader"].as_str()?.to_owned();
            self.nodes.iter().position(|node| node.name == leader)
        })
        .await
    }

    fn ask(&self, node: &Node, words: &[&str]) -> Option<Value> {
        let output = self
            .command("rabbitmqctl")
            .args(["-q", "-n", &node.name, "--formatter", "json"])
            .args(words)
            .output()
            .expect("rabbitmqctl can be run");
        output.status.success().then(|| serde_json::from_slice(&output.stdout).ok()).flatten()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(Path::new(PROGRAMS).join(program));
        command
            .env("HOME", &self.dir)
            .env("LC_ALL", "C.UTF-8")
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for BrokerCluster {
    fn drop(&mut self) {
        for number in 0..NODES {
            self.kill(number);
        }
        // It may have ended already.
        let _ = self.mapper.kill();
        let _ = self.mapper.wait();
        // What its nodes said is kept where a test has failed.
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// What the nodes know each other by.
fn secret(file: &Path) {
    fs::write(file, uuid::Uuid::now_v7().simple().to_string()).expect("a file");
    fs::set_permissions(file, PermissionsExt::from_mode(0o400)).expect("only its owner may read it");
}

async fn listens(port: u16) {
    eventually("a node takes connections", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
}
