//! Those who are measured: processes that answer requests off a queue, all asked for the same.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::broker::{Message, QueueType};
use crate::measure::usage::{self, Usage};

/// Somebody who answers requests off a queue.
pub(crate) struct Contender {
    pub(crate) name: String,
    /// How it is set up, in words.
    pub(crate) about: String,
    pub(crate) queue: String,
    /// The kind of queue that it can use, if it cannot use every kind.
    pub(crate) only: Option<QueueType>,
    pub(crate) answers: Answers,
    pub(crate) command: Box<dyn Fn() -> Command>,
    /// The message of each number.
    pub(crate) message: Box<dyn Fn(usize) -> Message>,
    /// What stands in each of its answers, where more than their number is to be looked at.
    pub(crate) says: Option<&'static str>,
    /// Of the backlog that all get, the part that this one can work off in about the same time.
    pub(crate) share: f64,
}

/// Where its answers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// In the queue of replies.
    Queue,
    /// In this database of Redis, a key each.
    Redis(u8),
}

/// This program once more, as one of the floors.
pub(crate) fn this_program() -> Command {
    Command::new(std::env::current_exe().expect("this program has a path"))
}

/// Its process, ended with this handle.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| log.display().to_string())?;
        let child = command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn();
        Ok(Self(child.with_context(|| format!("{command:?}"))?))
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage::of(self.0.id())
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }

    /// As a crash does.
    pub(crate) fn kill(&mut self) {
        if !self.has_ended() {
            usage::note_orphans(self.0.id());
        }
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
