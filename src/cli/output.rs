//! How errors look on a terminal.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_would_obey_is_shown_as_it_is() {
        assert_eq!(printable("a\u{1b}[31m\u{9b}\r\n\tä"), "a\\u{1b}[31m\\u{9b}\\r\n\tä");
        assert_eq!(one_line("a\nb"), "a\\nb");
    }
}
