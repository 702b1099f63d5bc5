//! The floors F0 and F1 (floor/echo.rs), as this program started once more.

use crate::broker::Message;
use crate::contender::{Answers, Contender, this_program};
use crate::stack::Stack;

pub(crate) const QUEUE: &str = "bench.echo";

/// Which floor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Floor {
    /// Consume, answer, acknowledge.
    F0,
    /// The same with a GET of this key.
    F1 { key: String },
}

/// A floor whose answers have `bytes` bytes, with further `settings` of the echo.
pub(crate) fn echo(stack: &Stack, floor: Floor, bytes: usize, message: Message, settings: &[&str]) -> Contender {
    let name = match floor {
        Floor::F0 => "F0 bare echo",
        Floor::F1 { .. } => "F1 echo with a GET",
    };
    let mut words: Vec<String> = ["echo", "--amqp", stack.amqp(), "--queue", QUEUE].map(str::to_owned).to_vec();
    words.extend(["--bytes".to_owned(), bytes.to_string()]);
    if let Floor::F1 { key } = floor {
        words.extend(["--redis", stack.redis(), "--key", &key].map(str::to_owned));
    }
    words.extend(settings.iter().map(|&word| word.to_owned()));
    Contender {
        name: name.to_owned(),
        about: format!("lapin, prefetch 512, answers in batches of 128, 4 at once, {bytes} bytes each"),
        queue: QUEUE.to_owned(),
        only: None,
        answers: Answers::Queue,
        command: Box::new(move || {
            let mut command = this_program();
            command.args(&words);
            command
        }),
        message: Box::new(move |_| message.clone()),
        says: None,
        share: 1.0,
    }
}
