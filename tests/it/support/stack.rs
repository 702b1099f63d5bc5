//! The local stack that `make test` has started.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// Addresses of the parts.
pub(crate) static STACK: LazyLock<Stack> = LazyLock::new(Stack::find);

#[derive(Debug)]
pub(crate) struct Stack {
    pub(crate) dir: PathBuf,
    values: HashMap<String, String>,
}

impl Stack {
    fn find() -> Self {
        let dir = std::env::var_os("STACK_DIR").map_or_else(|| root().join("target/test"), PathBuf::from);
        let text = std::fs::read_to_string(dir.join("env")).unwrap_or_else(|error| {
            panic!("{}/env: {error}: the real parts are not up; run `make test`", dir.display())
        });
        let values = text
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { dir, values }
    }

    pub(crate) fn value(&self, name: &str) -> &str {
        self.values.get(name).unwrap_or_else(|| panic!("{name} is missing in {}/env", self.dir.display()))
    }

    /// Runs `stack <action> <part>`: `stop`, `kill` or `start`.
    pub(crate) fn part(&self, action: &str, part: &str) {
        let output = Command::new(root().join("deploy/local/stack"))
            .args([action, part])
            .env("STACK_DIR", &self.dir)
            .output()
            .expect("deploy/local/stack can be run");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "stack {action} {part}: {}\n{text}", String::from_utf8_lossy(&output.stdout));
    }
}

impl Stack {
    /// Runs `rabbitmqctl` on the stack's broker.
    pub(crate) fn rabbitmqctl(&self, words: &[&str]) {
        let output = Command::new(root().join("deploy/local/stack"))
            .arg("rabbitmqctl")
            .args(words)
            .env("STACK_DIR", &self.dir)
            .output()
            .expect("deploy/local/stack can be run");
        assert!(output.status.success(), "rabbitmqctl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Runs `kubectl` as the cluster's administrator, with `input` on its standard input; returns what it prints.
    pub(crate) fn kubectl(&self, words: &[&str], input: &str) -> String {
        let mut child = Command::new(root().join("deploy/local/stack"))
            .arg("kubectl")
            .args(words)
            .env("STACK_DIR", &self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("deploy/local/stack can be run");
        child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "kubectl {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Stops a part without ending it, until the handle is dropped.
    pub(crate) fn freeze(&'static self, part: &'static str) -> Frozen {
        self.signal(part, "-STOP");
        Frozen { stack: self, part }
    }

    /// Sends a signal to the process of a part, by its pid file.
    pub(crate) fn signal(&self, part: &str, signal: &str) {
        let file = self.dir.join("run").join(format!("{part}.pid"));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let pid = text.split_whitespace().next().expect("a pid").to_owned();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill can be run").success());
    }
}

/// A part that stands still.
pub(crate) struct Frozen {
    stack: &'static Stack,
    part: &'static str,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.stack.signal(self.part, "-CONT");
    }
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
