//! The last control characters of a log.
//!
//! JSON escapes those below U+0020 and leaves DEL and the C1 set (U+0080 to U+009F) as they are, some
//! of which a terminal obeys like an escape sequence. Texts of requests stand in the log.

use std::borrow::Cow;
use std::io::{self, Write};

/// Writes JSON, in which such a character stands inside a string, with each of them escaped.
pub(super) struct Escaped<W>(pub(super) W);

impl<W: Write> Write for Escaped<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(&escaped(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn escaped(bytes: &[u8]) -> Cow<'_, [u8]> {
    // DEL, and the first byte of all of C1 in UTF-8: nearly no line has one.
    if !bytes.iter().any(|byte| matches!(byte, 0x7f | 0xc2)) {
        return Cow::Borrowed(bytes);
    }
    let text = String::from_utf8_lossy(bytes);
    let mut written = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{7f}'..='\u{9f}' => written.push_str(&format!("\\u{:04x}", u32::from(c))),
            plain => written.push(plain),
        }
    }
    Cow::Owned(written.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_reads_back() {
        let line = "{\"id\":\"a\u{9b}31m\u{7f}\u{85}ä\"}\n";
        let mut written = Vec::new();
        Escaped(&mut written).write_all(line.as_bytes()).unwrap();
        let text = String::from_utf8(written).unwrap();
        assert_eq!(text, "{\"id\":\"a\\u009b31m\\u007f\\u0085ä\"}\n");
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(back["id"], "a\u{9b}31m\u{7f}\u{85}ä");
    }
}
