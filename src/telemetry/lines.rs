//! Where log lines go: into memory, and from there to their end by a thread of its own, all that came meanwhile at once.
//!
//! A line costs whoever writes it a copy, and wakes nobody but the first after a silence: a wake for each would cost
//! more than the line. A pipe that nobody empties holds nothing up; lines beyond what memory is given to them are
//! dropped, and their number is told.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What is kept for an end that takes nothing, in bytes.
const MOST: usize = 4 << 20;
/// How long a line may wait for others to be written with.
const GATHER: Duration = Duration::from_millis(5);
/// How long the last lines may take when the process ends.
const GOODBYE: Duration = Duration::from_secs(1);

/// Takes lines.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

/// Writes the last lines when it is dropped.
#[must_use = "lines are written while this is held"]
pub struct Guard(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// A line has come after a silence, or the end; or the last line is written.
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    text: Vec<u8>,
    dropped: usize,
    ending: bool,
    ended: bool,
}

/// The lines, and their thread, which writes to `out`. `notice` makes the line that tells of so many dropped ones.
pub(super) fn lines(out: impl Write + Send + 'static, notice: fn(usize) -> String) -> io::Result<(Lines, Guard)> {
    let shared = Arc::new(Shared::default());
    let of_thread = Arc::clone(&shared);
    thread::Builder::new().name("log".to_owned()).spawn(move || of_thread.write_until_the_end(out, notice))?;
    Ok((Lines(Arc::clone(&shared)), Guard(shared)))
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Bytes and counts: a panic leaves nothing half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_until_the_end(&self, mut out: impl Write, notice: fn(usize) -> String) {
        let mut text = Vec::new();
        loop {
            let ending = {
                let is_quiet = |waiting: &mut Waiting| waiting.text.is_empty() && !waiting.ending;
                let waiting = self.changed.wait_while(self.lock(), is_quiet).unwrap_or_else(PoisonError::into_inner);
                waiting.ending
            };
            if !ending {
                thread::sleep(GATHER);
            }
            let dropped = {
                let mut waiting = self.lock();
                std::mem::swap(&mut waiting.text, &mut text);
                std::mem::take(&mut waiting.dropped)
            };
            if dropped > 0 {
                text.extend_from_slice(notice(dropped).as_bytes());
            }
            // There is no other place to say that a log cannot be written.
            let _ = out.write_all(&text).and_then(|()| out.flush());
            text.clear();
            let mut waiting = self.lock();
            if waiting.ending && waiting.text.is_empty() {
                waiting.ended = true;
                self.changed.notify_all();
                return;
            }
        }
    }
}

impl Write for Lines {
    /// Takes the whole of it, or drops the whole of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let first = {
            let mut waiting = self.0.lock();
            if waiting.text.len() + line.len() > MOST {
                waiting.dropped += 1;
                return Ok(line.len());
            }
            waiting.text.extend_from_slice(line);
            waiting.text.len() == line.len()
        };
        if first {
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.ending = true;
        self.0.changed.notify_all();
        // Whoever reads the log may have stopped.
        drop(self.0.changed.wait_timeout_while(waiting, GOODBYE, |waiting| !waiting.ended));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Each write goes to the receiver, once it has been let through.
    struct Out {
        leave: Arc<Mutex<()>>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _leave = self.leave.lock();
            self.written.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn begin() -> (Lines, Guard, Arc<Mutex<()>>, mpsc::Receiver<Vec<u8>>) {
        let (leave, (written, read)) = (Arc::default(), mpsc::channel());
        let (lines, guard) =
            lines(Out { leave: Arc::clone(&leave), written }, |lost| format!("{lost} lost\n")).unwrap();
        (lines, guard, leave, read)
    }

    #[test]
    fn every_line_is_written_in_its_order_and_the_last_ones_at_the_end() {
        let (mut lines, guard, _, read) = begin();
        for number in 0..1000 {
            writeln!(lines, "{number}").unwrap();
        }
        drop(guard);
        let all: Vec<u8> = read.try_iter().flatten().collect();
        let expected: String = (0..1000).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(all).unwrap(), expected);
    }

    #[test]
    fn an_end_that_takes_nothing_holds_nobody_up_and_the_loss_is_told() {
        let (mut lines, guard, leave, read) = begin();
        let held = leave.lock().unwrap();
        let line = [b'x'; 1 << 20];
        for _ in 0..20 {
            lines.write_all(&line).unwrap();
        }
        drop(held);
        drop(guard);
        let all: Vec<u8> = read.try_iter().flatten().collect();
        let told = String::from_utf8(all.iter().copied().filter(|byte| *byte != b'x').collect()).unwrap();
        let written = all.iter().filter(|byte| **byte == b'x').count() >> 20;
        assert_eq!(told, format!("{} lost\n", 20 - written));
        assert!(written >= 4, "{written}");
    }
}
