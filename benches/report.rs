//! What is printed and kept: tables in Markdown, and everything that was measured in JSON.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::goals::{self, Figure};
use crate::measure::ratio::Interval;

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
        text
    }
}

/// Writes `results.md` and `results.json`.
pub(crate) fn write(dir: &Path, machine: &str, parts: &[Part]) -> Result<()> {
    let mut text = format!("# Measured on {machine}\n");
    for part in parts {
        let _ = write!(text, "\n{}", part.markdown());
    }
    let _ = write!(text, "\n## Goals\n\n{}", goals::table(parts).markdown());
    std::fs::write(dir.join("results.md"), text)?;
    let json = serde_json::json!({"machine": machine, "parts": parts});
    std::fs::write(dir.join("results.json"), format!("{json:#}\n"))?;
    Ok(())
}
