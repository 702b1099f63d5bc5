//! Watches as they pass: each line is one event.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use http_body_util::BodyDataStream;
use hyper::Response;
use hyper::body::Bytes;

use super::{Body, Calls, State, streamed};

/// How a watch goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// It ends at its first event.
    Ends,
    /// It says that its place in the history is gone (410).
    Gone,
    /// It says nothing more, and does not end.
    Silent,
    /// It leaves out every change.
    Drops,
    /// It says everything twice.
    Repeats,
    /// It says everything so much later.
    Late(Duration),
    /// It begins with all that earlier watches have said.
    Stale,
    /// It says what is no event.
    Garbage,
}

/// Lines that a stale watch may say again.
const REMEMBERED: usize = 2000;
const GONE: &[u8] = br#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old","reason":"Expired","code":410}}
"#;

/// The watch, as it is or with a lie.
pub(super) fn tell(
    response: Response<Body>,
    watched: Calls,
    lie: Option<Lie>,
    state: Arc<Mutex<State>>,
) -> Response<Body> {
    let (head, body) = response.into_parts();
    let (earlier, cut) = {
        let mut state = state.lock().expect("nobody panics with it");
        let watches = state.watches.entry(watched).or_default();
        (watches.said.clone(), watches.cut.clone())
    };
    let told = lines(body).take_until(cut.cancelled_owned()).inspect(move |line| {
        if let Ok(line) = line {
            let mut state = state.lock().expect("nobody panics with it");
            let said = &mut state.watches.entry(watched).or_default().said;
            if said.len() == REMEMBERED {
                said.drain(..REMEMBERED / 2);
            }
            said.push(line.clone());
        }
    });
    let body = match lie {
        None => streamed(told),
        Some(Lie::Ends) => streamed(told.take(1)),
        Some(Lie::Gone) => streamed(told.take(1).chain(once(Bytes::from_static(GONE)))),
        Some(Lie::Silent) => streamed(told.filter(|_| async { false }).chain(futures_util::stream::pending())),
        Some(Lie::Drops) => streamed(told.filter(|line| {
            let change = line.as_ref().is_ok_and(|line| line.windows(10).any(|window| window == b"\"MODIFIED\""));
            async move { !change }
        })),
        Some(Lie::Repeats) => streamed(told.flat_map(|line| {
            let again = line.as_ref().ok().cloned().map(Ok);
            futures_util::stream::iter([Some(line), again].into_iter().flatten())
        })),
        // Each so late, and not each so much later than the one before.
        Some(Lie::Late(delay)) => streamed(
            told.map(move |line| {
                let due = tokio::time::Instant::now() + delay;
                async move {
                    tokio::time::sleep_until(due).await;
                    line
                }
            })
            .buffered(REMEMBERED),
        ),
        Some(Lie::Stale) => streamed(futures_util::stream::iter(earlier.into_iter().map(Ok)).chain(told)),
        Some(Lie::Garbage) => streamed(told.take(1).chain(once(Bytes::from_static(b"{\"type\": [\n")))),
    };
    Response::from_parts(head, body)
}

fn once(line: Bytes) -> impl Stream<Item = io::Result<Bytes>> {
    futures_util::stream::iter([Ok(line)])
}

fn lines(body: Body) -> impl Stream<Item = io::Result<Bytes>> {
    let pieces = BodyDataStream::new(body);
    futures_util::stream::unfold((pieces.boxed(), Vec::<u8>::new()), |(mut pieces, mut rest)| async move {
        loop {
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = Bytes::from(rest.drain(..=end).collect::<Vec<_>>());
                return Some((Ok(line), (pieces, rest)));
            }
            match pieces.next().await? {
                Ok(piece) => rest.extend_from_slice(&piece),
                Err(error) => return Some((Err(error), (pieces, rest))),
            }
        }
    })
}
