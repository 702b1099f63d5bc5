//! The stack that `make bench` has started: addresses, and parts to stop and start.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Addresses of the parts.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub(crate) dir: PathBuf,
    values: HashMap<String, String>,
}

impl Stack {
    pub(crate) fn find() -> Result<Self> {
        let dir = std::env::var_os("STACK_DIR").map_or_else(|| root().join("target/bench"), PathBuf::from);
        let env = dir.join("env");
        let text = std::fs::read_to_string(&env)
            .with_context(|| format!("{}: no stack is up; run `make bench`", env.display()))?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Ok(Self { values: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), dir })
    }

    pub(crate) fn amqp(&self) -> &str {
        self.value("AMQP_URL")
    }

    pub(crate) fn redis(&self) -> &str {
        self.value("REDIS_URL")
    }

    pub(crate) fn kubeconfig(&self) -> &str {
        self.value("KUBECONFIG")
    }

    fn value(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }

    /// The process of a part.
    pub(crate) fn pid(&self, part: &str) -> Result<u32> {
        let file = self.dir.join("run").join(format!("{part}.pid"));
        let text = std::fs::read_to_string(&file).with_context(|| format!("{} does not run", file.display()))?;
        let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
        pid.with_context(|| format!("{}: no pid in it", file.display()))
    }

    /// The processes of all parts that run.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let files = std::fs::read_dir(self.dir.join("run")).into_iter().flatten().flatten();
        let parts = files.filter_map(|file| Some(file.file_name().to_str()?.strip_suffix(".pid")?.to_owned()));
        parts.filter_map(|part| self.pid(&part).ok()).collect()
    }

    /// Measures while a part is stopped.
    pub(crate) async fn without<T>(&self, part: &str, measure: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
        self.run(&["stop", part])?;
        let measured = measure().await;
        self.run(&["start", part])?;
        measured
    }

    /// Has the cluster know the resource definitions in a directory; returns when these are established.
    pub(crate) fn define(&self, dir: &Path, names: &[&str]) -> Result<()> {
        let dir = dir.to_str().context("a path that is text")?;
        self.run(&["kubectl", "apply", "--server-side", "--force-conflicts", "-f", dir])?;
        let names: Vec<String> = names.iter().map(|name| format!("crd/{name}")).collect();
        let waiting = ["kubectl", "wait", "--for=condition=Established", "--timeout=30s"];
        self.run(&waiting.into_iter().chain(names.iter().map(String::as_str)).collect::<Vec<_>>()).map(drop)
    }

    /// Runs `kubectl` as the cluster's administrator, with `input` on its standard input.
    pub(crate) fn kubectl(&self, words: &[&str], input: &str) -> Result<String> {
        self.told(&[&["kubectl"], words].concat(), input)
    }

    /// Runs `deploy/local/stack` with these words; returns what it prints.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        self.told(words, "")
    }

    fn told(&self, words: &[&str], input: &str) -> Result<String> {
        let stack = root().join("deploy/local/stack");
        let mut command = Command::new(stack);
        command.args(words).env("STACK_DIR", &self.dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("it is piped")?.write_all(input.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("stack {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
