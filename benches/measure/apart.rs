//! The stack on one processor and whoever is measured on another: what one takes is not taken from the other, as where they
//! run on machines of their own.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::contender::Contender;
use crate::stack::Stack;

const OF_THE_STACK: &str = "0";
const OF_THE_CONTENDER: &str = "1";

/// As long as this is there.
pub(crate) struct Apart<'a>(&'a Stack);

impl<'a> Apart<'a> {
    pub(crate) fn begin(stack: &'a Stack) -> Result<Self> {
        ensure!(processors()? > 1, "this takes two processors");
        let apart = Self(stack);
        keep_to(stack, OF_THE_STACK)?;
        Ok(apart)
    }

    pub(crate) fn keep(&self, contender: Contender) -> Contender {
        let Contender { command, .. } = contender;
        let command = Box::new(move || kept(&command()));
        Contender { command, ..contender }
    }
}

impl Drop for Apart<'_> {
    fn drop(&mut self) {
        // A part that has ended needs no processor.
        let all = processors().map(|count| format!("0-{}", count - 1));
        let _ = all.and_then(|all| keep_to(self.0, &all));
    }
}

fn processors() -> Result<usize> {
    let online = std::fs::read_to_string("/proc/cpuinfo")?;
    Ok(online.lines().filter(|line| line.starts_with("processor")).count())
}

fn keep_to(stack: &Stack, processors: &str) -> Result<()> {
    for pid in stack.pids() {
        let set = Command::new("taskset")
            .args(["--all-tasks", "--cpu-list", "--pid", processors])
            .arg(pid.to_string())
            .output()?;
        ensure!(set.status.success(), "taskset: {}", String::from_utf8_lossy(&set.stderr));
    }
    Ok(())
}

fn kept(command: &Command) -> Command {
    let mut kept = Command::new("taskset");
    kept.args(["--cpu-list", OF_THE_CONTENDER]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => kept.env(name, value),
            None => kept.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        kept.current_dir(directory);
    }
    kept
}
