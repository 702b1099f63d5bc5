//! What is printed and kept: tables in Markdown, and everything that was measured in JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::cluster;
use crate::goals::{self, Figure};
use crate::measure::machine;
use crate::measure::ratio::Interval;
use crate::stack::{Stack, root};

/// What one part came to.
#[derive(Debug, Serialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// How it was measured, and what is to be known of it.
    pub(crate) notes: Vec<String>,
    pub(crate) tables: Vec<Table>,
    /// Those of which something is promised.
    pub(crate) figures: Vec<(Figure, Interval)>,
    /// Each single measurement.
    pub(crate) data: Value,
    /// What of it the machine has spoilt, though it was taken again.
    pub(crate) disturbed: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Table {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(|&column| column.to_owned()).collect(), rows: Vec::new() }
    }

    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = line(&self.columns);
        text += &line(&vec!["---".to_owned(); self.columns.len()]);
        self.rows.iter().for_each(|row| text += &line(row));
        text
    }
}

impl Part {
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n", self.name);
        for table in &self.tables {
            let _ = writeln!(text, "{}", table.markdown());
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        for flaw in &self.disturbed {
            let _ = writeln!(text, "- **disturbed**: {flaw}");
        }
        text
    }
}

/// What was measured, on what, and how.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: String,
    /// Of this project.
    pub(crate) commit: String,
    pub(crate) command: String,
    /// Of what it ran beside.
    pub(crate) versions: Vec<String>,
    pub(crate) parts: Vec<Part>,
}

impl Report {
    /// Of nothing yet.
    pub(crate) async fn begin(stack: &Stack) -> Result<Self> {
        let sync = machine::sync_latency(&stack.dir)?;
        let kubernetes = cluster::client(stack).await?.apiserver_version().await?.git_version;
        let redis = printed("redis-server", &["--version"])?;
        let changed = !printed("git", &["status", "--porcelain", "--untracked-files=no"])?.is_empty();
        let commit = printed("git", &["rev-parse", "--short", "HEAD"])?;
        Ok(Self {
            machine: format!("{}; a synced write takes {:.2} ms", machine::describe(), sync.as_secs_f64() * 1e3),
            commit: format!("{commit}{}", if changed { " with changes" } else { "" }),
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
            versions: vec![
                format!("RabbitMQ {}", stack.run(&["rabbitmqctl", "version"])?.trim()),
                redis.split(" sha").next().unwrap_or_default().to_owned(),
                format!("Kubernetes {kubernetes}"),
                printed("rustc", &["--version"])?,
            ],
            parts: Vec::new(),
        })
    }

    fn markdown(&self) -> String {
        let mut text = format!("# Measured on {}\n\n", self.machine);
        let _ = writeln!(text, "`{}` at {}, beside {}", self.command, self.commit, self.versions.join(", "));
        for part in &self.parts {
            let _ = write!(text, "\n{}", part.markdown());
        }
        let _ = write!(text, "\n## Goals\n\n{}", goals::table(&self.parts).markdown());
        text
    }

    /// Writes `NAME.md` and `NAME.json`.
    pub(crate) fn write(&self, dir: &Path, name: &str) -> Result<()> {
        std::fs::write(dir.join(format!("{name}.md")), self.markdown())?;
        let json = serde_json::json!(self);
        std::fs::write(dir.join(format!("{name}.json")), format!("{json:#}\n"))?;
        Ok(())
    }
}

/// What a program prints, in the repository.
fn printed(program: &str, words: &[&str]) -> Result<String> {
    let output = Command::new(program).args(words).current_dir(root()).output().with_context(|| program.to_owned())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
