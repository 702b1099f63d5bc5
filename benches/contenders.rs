//! Each contender as it is measured.

pub(crate) mod argo;
mod dispatcher;
mod echo;
pub(crate) mod keda;
mod peers;

pub(crate) use dispatcher::{Dispatcher, REQUESTS, declare_queues, dispatcher};
pub(crate) use echo::{Floor, echo};
pub(crate) use peers::{TUTORIAL, celery, tutorial, tutorial_of_misses};

use crate::cached::Cached;
use crate::contender::Contender;
use crate::stack::Stack;

/// F0 and jobquay, asked for the same hits.
pub(crate) fn echo_and_dispatcher(stack: &Stack, cached: &Cached) -> [Contender; 2] {
    let message = cached.requests();
    [echo(stack, Floor::F0, cached.answer_bytes, message(0), &[]), dispatcher(Dispatcher::of(stack), message)]
}
