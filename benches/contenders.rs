//! Each contender as it is measured.

mod dispatcher;
mod echo;
pub(crate) mod keda;
mod peers;

pub(crate) use dispatcher::{Dispatcher, REQUESTS, dispatcher};
pub(crate) use echo::{Floor, echo};
pub(crate) use peers::{celery, tutorial};

use crate::cached::Cached;
use crate::contender::Contender;
use crate::stack::Stack;

/// F0 and jobquay, asked for the same hits.
pub(crate) fn echo_and_dispatcher(stack: &Stack, cached: &Cached) -> [Contender; 2] {
    let message = cached.requests();
    [echo(stack, Floor::F0, cached.answer_bytes, message(0), &[]), dispatcher(Dispatcher::of(stack), message)]
}
