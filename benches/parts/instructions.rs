//! What the pure steps of a hit cost in instructions, counted by callgrind: the same on every run, however busy the machine.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum as _;
use serde_json::json;

use crate::goals::Figure;
use crate::measure::ratio::Interval;
use crate::pure::Step;
use crate::report::{Part, Table};

const TIMES: u64 = 500;

pub(super) fn measure() -> Result<Part> {
    let nothing = count(Step::Nothing)?;
    let mut table = Table::new(&["pure step", "instructions"]);
    let (mut data, mut sum) = (serde_json::Map::new(), 0);
    for step in Step::value_variants().iter().filter(|step| **step != Step::Nothing) {
        let each = count(*step)?.saturating_sub(nothing) / TIMES;
        sum += if Step::OF_A_HIT.contains(step) { each } else { 0 };
        table.rows.push(vec![format!("{step:?}").to_lowercase(), each.to_string()]);
        data.insert(format!("{step:?}").to_lowercase(), json!(each));
    }
    Ok(Part {
        name: "instructions".to_owned(),
        notes: Vec::new(),
        tables: vec![table],
        figures: vec![(Figure::Instructions, Interval::exact(sum as f64 / 1e3))],
        data: data.into(),
        disturbed: Vec::new(),
    })
}

/// Of this program, getting ready included.
fn count(step: Step) -> Result<u64> {
    let word = step.to_possible_value().context("every step has a name")?.get_name().to_owned();
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["pure", &word, &TIMES.to_string()])
        .output()
        .context("valgrind (Debian's package of that name)")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "valgrind: {text}");
    let collected = text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    collected.with_context(|| format!("valgrind has counted nothing: {text}"))
}
