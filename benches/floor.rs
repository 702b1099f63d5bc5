//! The floors: the least that anybody has to do for the same outcome, done the best way that is known.

pub(crate) mod create;
pub(crate) mod echo;
pub(crate) mod list;
pub(crate) mod make;
pub(crate) mod watch;
