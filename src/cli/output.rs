//! How things look on a terminal.

use std::io::Write as _;

/// The error and, below it, each cause once.
pub(super) fn print_error(error: &anyhow::Error) {
    eprintln!("error: {error}");
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !said.contains(&text) {
            eprintln!("  because: {text}");
        }
        said = text;
    }
}

/// Text from outside, with every control character escaped but line ends and tabs.
pub(super) fn printable(text: &str) -> String {
    escaped(text, &['\n', '\t'])
}

/// As [`printable`], on one line.
pub(super) fn one_line(text: &str) -> String {
    escaped(text, &[])
}

fn escaped(text: &str, kept: &[char]) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !kept.contains(&c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// To standard output. A reader that went away, such as `head`, has seen what it wanted.
pub(super) fn write(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Rows of equally many cells, side by side; the last of each can be long.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let last = rows.first().map_or(0, |row| row.len().saturating_sub(1));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..last).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        format!("{}{}\n", cells.collect::<String>(), row[last])
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_would_obey_is_shown_as_it_is() {
        assert_eq!(printable("a\u{1b}[31m\u{9b}\r\n\tä"), "a\\u{1b}[31m\\u{9b}\\r\n\tä");
        assert_eq!(one_line("a\nb"), "a\\nb");
    }
}
