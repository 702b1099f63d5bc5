//! A Redis of a test's own, which can be frozen, filled and made read-only without a neighbour noticing.

use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};

use redis::aio::MultiplexedConnection;

use super::dispatcher::free_port;
use super::eventually;
use super::stack::STACK;

pub(crate) struct OwnRedis {
    child: Mutex<Child>,
    port: u16,
    dir: std::path::PathBuf,
}

impl OwnRedis {
    pub(crate) async fn start(name: &str) -> Self {
        let port = free_port();
        let dir = STACK.dir.join("log").join(format!("redis-{name}-{port}"));
        std::fs::create_dir_all(&dir).expect("a folder");
        let redis = Self { child: Mutex::new(spawn(port, &dir, &[])), port, dir };
        redis.up().await;
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) async fn connection(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("a URL");
        client.get_multiplexed_async_connection().await.expect("a connection")
    }

    pub(crate) async fn command(&self, words: &[&str]) {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        // The client waits for half a second, which a busy machine can take.
        eventually("Redis answers", async || {
            let client = redis::Client::open(self.url()).expect("a URL");
            let mut connection = client.get_multiplexed_async_connection().await.ok()?;
            command.query_async::<()>(&mut connection).await.ok()
        })
        .await;
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill can be run").success());
    }

    /// Starts it anew from its saved data, which it takes so many microseconds a key to load.
    pub(crate) async fn restart_loading(&self, microseconds_per_key: u32) {
        self.command(&["SAVE"]).await;
        self.end();
        *self.child() = spawn(self.port, &self.dir, &["--key-load-delay", &microseconds_per_key.to_string()]);
    }

    /// Starts it anew after its end, with nothing in it.
    pub(crate) fn start_empty(&self) {
        *self.child() = spawn(self.port, &self.dir, &[]);
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("nobody panics with it")
    }

    pub(crate) async fn up(&self) {
        self.command(&["PING"]).await;
    }

    /// With SIGKILL.
    pub(crate) fn end(&self) {
        let mut child = self.child();
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        self.end();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn spawn(port: u16, dir: &std::path::Path, more: &[&str]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"])
        .args(["--dir", dir.to_str().expect("a path that is text"), "--enable-debug-command", "local"])
        .args(more)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server can be run")
}
