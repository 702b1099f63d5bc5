//! jobquay itself: the release build with its default settings.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::broker::{self, Message};
use crate::contender::{Answers, Contender, Running};
use crate::stack::{Stack, root};

pub(crate) const REQUESTS: &str = "jobquay.requests";

const PATIENCE: Duration = Duration::from_secs(30);

/// How a dispatcher is to be started.
#[derive(Debug, Clone)]
pub(crate) struct Dispatcher {
    program: PathBuf,
    environment: Vec<(String, String)>,
    settings: Vec<String>,
}

impl Dispatcher {
    pub(crate) fn of(stack: &Stack) -> Self {
        let templates = root().join("benches/templates");
        let environment = [
            ("KUBECONFIG", stack.kubeconfig()),
            ("JOBQUAY__AMQP__URL", stack.amqp()),
            ("JOBQUAY__CACHE__URL", stack.redis()),
            ("JOBQUAY__KUBERNETES__NAMESPACE", "work"),
            ("JOBQUAY__TEMPLATES__DIR", templates.to_str().expect("a path that is text")),
            ("JOBQUAY__HTTP__LISTEN", ""),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { program: env!("CARGO_BIN_EXE_jobquay").into(), environment, settings: Vec::new() }
    }

    /// Another build of it.
    pub(crate) fn built_at(self, program: &Path) -> Self {
        Self { program: program.to_owned(), ..self }
    }

    pub(crate) fn with(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(root()).arg("serve").envs(self.environment.iter().cloned());
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command
    }
}

/// Has every queue made, as `declare` does; from then on, parts of a run make those that they use anew, of their own kind.
pub(crate) async fn declare_queues(stack: &Stack) -> Result<()> {
    let declaring = Dispatcher::of(stack).with("amqp.topology=declare");
    let mut running = Running::start(declaring.command(), &stack.dir.join("log/declare.log"))?;
    let begun = Instant::now();
    // It makes that of the lane last.
    while !broker::is_there(stack.amqp(), "jobquay.pending.default").await? {
        ensure!(!running.has_ended() && begun.elapsed() < PATIENCE, "the queues are not made: log/declare.log");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// As a contender that answers from its cache.
pub(crate) fn dispatcher(setup: Dispatcher, message: impl Fn(usize) -> Message + 'static) -> Contender {
    Contender {
        name: "jobquay".to_owned(),
        about: format!("the release build, defaults {}", setup.settings.join(" ")),
        queue: REQUESTS.to_owned(),
        only: None,
        answers: Answers::Queue,
        command: Box::new(move || setup.command()),
        message: Box::new(message),
        says: Some(r#""served_by":"cache""#),
        share: 1.0,
    }
}
