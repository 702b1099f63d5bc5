//! A container's log, told apart from what a kubelet says in its place.
//!
//! A kubelet that is asked for a log that it has removed answers with 200 and the words of its error (seen with
//! Kubernetes 1.36: "unable to retrieve container logs for …"). Asked for timestamps, it puts one in front of each line that
//! the container wrote, and none in front of its own words.

/// The longest timestamp: nanoseconds and an offset.
const STAMP_MAX: usize = 40;
/// Of the kubelet's words, so much is told.
const WORDS_MAX: usize = 300;

/// Takes the timestamps off a log, piece by piece.
#[derive(Debug, Default)]
pub struct StampedLog {
    written: Vec<u8>,
    at: At,
}

/// Where in the log the next byte stands.
#[derive(Debug)]
enum At {
    /// In the timestamp of a line, after these bytes of it.
    Stamp(Vec<u8>),
    Line,
    /// In somebody else's words.
    Words(Vec<u8>),
}

impl Default for At {
    fn default() -> Self {
        Self::Stamp(Vec::new())
    }
}

impl StampedLog {
    /// Takes the next piece.
    pub fn push(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() {
            let (at, rest) = match std::mem::take(&mut self.at) {
                At::Stamp(stamp) => stamped(stamp, piece),
                At::Line => self.line(piece),
                At::Words(words) => (At::Words(cut([&words, piece].concat())), &[][..]),
            };
            (self.at, piece) = (at, rest);
        }
    }

    /// How many bytes the container wrote, as far as it was read.
    pub fn written_bytes(&self) -> usize {
        self.written.len()
    }

    /// Whether it is no log: somebody else speaks.
    pub fn is_none(&self) -> bool {
        matches!(self.at, At::Words(_))
    }

    /// Whether reading on is of no use: somebody else speaks, and enough of that is known.
    pub fn is_spoilt(&self) -> bool {
        matches!(&self.at, At::Words(words) if words.len() >= WORDS_MAX)
    }

    /// What the container wrote, as far as it was read.
    pub fn into_written(self) -> Vec<u8> {
        self.written
    }

    /// What the container wrote, to its end.
    ///
    /// # Errors
    /// The words of somebody else, which stand for a log that is not there or not whole.
    pub fn finish(self) -> Result<Vec<u8>, String> {
        match self.at {
            At::Stamp(words) | At::Words(words) if !words.is_empty() => {
                Err(String::from_utf8_lossy(&words).trim().to_owned())
            }
            _ => Ok(self.written),
        }
    }

    fn line<'a>(&mut self, piece: &'a [u8]) -> (At, &'a [u8]) {
        match piece.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                self.written.extend_from_slice(&piece[..=end]);
                (At::default(), &piece[end + 1..])
            }
            None => {
                self.written.extend_from_slice(piece);
                (At::Line, &[])
            }
        }
    }
}

fn stamped(stamp: Vec<u8>, piece: &[u8]) -> (At, &[u8]) {
    let end = piece.iter().position(|byte| *byte == b' ');
    let stamp = [&stamp, &piece[..end.unwrap_or(piece.len())]].concat();
    match end {
        Some(end) if is_timestamp(&stamp) => (At::Line, &piece[end + 1..]),
        Some(end) => (At::Words(cut(stamp)), &piece[end..]),
        None if stamp.len() > STAMP_MAX => (At::Words(cut(stamp)), &[]),
        None => (At::Stamp(stamp), &[]),
    }
}

fn cut(mut words: Vec<u8>) -> Vec<u8> {
    words.truncate(WORDS_MAX);
    words
}

fn is_timestamp(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<jiff::Timestamp>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: &str = "2026-11-27T07:11:08.000000001Z ";

    fn read(log: &[u8], piece: usize) -> Result<Vec<u8>, String> {
        let mut stamped = StampedLog::default();
        log.chunks(piece).for_each(|piece| stamped.push(piece));
        stamped.finish()
    }

    #[test]
    fn what_a_container_wrote_comes_out_byte_for_byte_however_it_is_cut() {
        let offset = "2026-11-27T09:11:08.000000001+02:00 ";
        let cases: [(String, &[u8]); 7] = [
            (String::new(), b""),
            (format!("{STAMP}\n"), b"\n"),
            (format!("{STAMP}one\n{offset}two\n"), b"one\ntwo\n"),
            (format!("{STAMP}no end"), b"no end"),
            (format!("{STAMP}\n{STAMP}\n{STAMP} x"), b"\n\n x"),
            (format!("{STAMP}{STAMP}its own\n"), b"2026-11-27T07:11:08.000000001Z its own\n"),
            (format!("{STAMP}unable to retrieve\n"), b"unable to retrieve\n"),
        ];
        for (log, written) in cases {
            for piece in [1, 2, 7, 31, 1000] {
                assert_eq!(read(log.as_bytes(), piece).as_deref(), Ok(written), "{log:?} by {piece}");
            }
        }
    }

    #[test]
    fn somebody_else_who_does_not_end_is_not_heard_out() {
        let mut log = StampedLog::default();
        log.push(STAMP.as_bytes());
        log.push(&[b'x'; 2 * WORDS_MAX]);
        assert!(!log.is_spoilt(), "the container may write what it likes");
        log.push(b"\n");
        log.push(&[b'x'; WORDS_MAX - 1]);
        assert!(!log.is_spoilt());
        log.push(b"xx");
        assert!(log.is_spoilt());
    }

    #[test]
    fn what_a_kubelet_says_is_no_log() {
        let words = "unable to retrieve container logs for containerd://6ae4bfcc";
        let path = "failed to try resolving symlinks in path \"/var/log/pods/x/0.log\": no such file or directory";
        for (log, said) in [
            (words.to_owned(), words),
            (path.to_owned(), path),
            (format!("{STAMP}one\n{words}"), words),
            ("short".to_owned(), "short"),
            (format!("{STAMP}one\n2026-11-27T07:1"), "2026-11-27T07:1"),
            ("x".repeat(1000), &"x".repeat(WORDS_MAX)),
        ] {
            for piece in [1, 7, 1000] {
                assert_eq!(read(log.as_bytes(), piece), Err(said.to_owned()), "by {piece}");
            }
        }
    }
}
