//! `jobquay config`

use std::io::Write as _;

use super::Exit;
use crate::config::{Config, Layered};

pub(super) fn print(layered: &Layered, config: &Config) -> Exit {
    let lines = layered.lines(config);
    let width =
        |part: fn(&(String, String, crate::config::Source)) -> usize| lines.iter().map(part).max().unwrap_or_default();
    let (keys, values) = (width(|line| line.0.len()), width(|line| line.1.len()));
    let mut out = std::io::stdout().lock();
    for (key, value, source) in &lines {
        // A reader that went away, such as `head`, has seen what it wanted.
        if writeln!(out, "{key:keys$} = {value:values$}  # {source}").is_err() {
            break;
        }
    }
    Exit::Ok
}
