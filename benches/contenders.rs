//! Each contender as it is measured.

mod dispatcher;
mod echo;
pub(crate) mod keda;
mod peers;

pub(crate) use dispatcher::{Dispatcher, REQUESTS, dispatcher};
pub(crate) use echo::{Floor, echo};
pub(crate) use peers::{celery, tutorial};
