//! A request as it goes on: one line that changes on a terminal, and elsewhere a line for each change.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Failed;
use super::output::one_line;
use super::source::Source;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);
/// One that was sent just now is not known before somebody has taken it.
const NOT_YET: Duration = Duration::from_secs(30);
const SPINNER: [char; 8] = ['⠋', '⠙', '⠸', '⠴', '⠦', '⠇', '⠏', '⠹'];
const STEP: Duration = Duration::from_millis(100);

/// Writes to standard error how it goes on; gives back how it ended.
pub(super) async fn follow(source: &Source, request_id: &str) -> Result<Value, Failed> {
    let begun = Instant::now();
    let mut line = Line::new();
    loop {
        match source.status(request_id).await {
            Ok(status) => {
                line.show(&status, begun.elapsed());
                if status["terminal"] == true {
                    line.end();
                    return Ok(status);
                }
            }
            Err(_) if begun.elapsed() < NOT_YET => line.say("queued".to_owned(), begun.elapsed()),
            Err(failed) => {
                line.end();
                return Err(failed);
            }
        }
        line.spin(PAUSE, begun).await;
    }
}

struct Line {
    is_live: bool,
    said: String,
    turn: usize,
}

impl Line {
    fn new() -> Self {
        Self { is_live: std::io::stderr().is_terminal(), said: String::new(), turn: 0 }
    }

    fn show(&mut self, status: &Value, elapsed: Duration) {
        let text = |value: &Value| one_line(value.as_str().unwrap_or_default());
        let waiting = text(&status["waiting"]["message"]);
        let more = if waiting.is_empty() { text(&status["served_by"]) } else { waiting };
        self.say(format!("{:10} {more}", text(&status["state"])).trim_end().to_owned(), elapsed);
    }

    fn say(&mut self, what: String, elapsed: Duration) {
        if !self.is_live && what != self.said {
            eprintln!("{:7.1} s  {what}", elapsed.as_secs_f64());
        }
        self.said = what;
    }

    /// Waits, and on a terminal moves.
    async fn spin(&mut self, pause: Duration, begun: Instant) {
        if !self.is_live {
            return tokio::time::sleep(pause).await;
        }
        for _ in 0..pause.as_millis() / STEP.as_millis() {
            self.turn = (self.turn + 1) % SPINNER.len();
            // The line is cleared to its end. A terminal that went away has seen what it wanted.
            let (mark, elapsed) = (SPINNER[self.turn], begun.elapsed().as_secs_f64());
            let _ = write!(std::io::stderr(), "\r{mark} {:.1} s  {}\u{1b}[K", elapsed, self.said);
            tokio::time::sleep(STEP).await;
        }
    }

    fn end(&self) {
        if self.is_live {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}
