//! jobquay turns messages on RabbitMQ into Kubernetes Jobs, never computes the same thing twice, and
//! never loses a reply.
//!
//! # The flow
//!
//! ```text
//! jobquay.requests ─▶ intake: parse ▸ authorise ▸ render ▸ key ▸ Redis GET
//!                       ├ rejected, expired, hit ─▶ event ▸ confirm ▸ ack
//!                       ├ miss, no slot ─▶ jobquay.pending.<lane> ▸ confirm ▸ ack
//!                       └ miss ─▶ create the Job, or join the one that runs ▸ ack
//! Kubernetes ────────▶ completion: watch ▸ capture ▸ Redis SET ▸ event to every waiter ▸ confirm ▸ release
//! ```
//!
//! The Job is the durable record: it carries everyone who waits on it, and a finalizer that means "an
//! answer is owed". A process that dies at any point leaves either an unacknowledged delivery or a Job
//! with that finalizer, and whoever comes next goes on from there. Redis is only a cache.
//!
//! # What always holds
//!
//! - A delivery is acknowledged only after its event was confirmed and not returned, or set aside for an operator;
//!   after a Job exists that its waiter stands on, or whose queue it is in; or after it was confirmed into its lane
//!   or into `jobquay.dead`.
//! - Creating the Job is the lock: one name per key.
//! - A Job is released only after its events were confirmed, and only at the resource version at which
//!   its waiters were read.
//! - A hit returns only bytes that a successful Job of exactly that key wrote, as far as Redis can be trusted.
//!
//! # Reading order
//!
//! [`intake`] and [`completion`] are the two ways; [`domain`] holds the rules they ask, without any
//! I/O; [`queue`], [`cache`] and [`cluster`] are the edges, and [`reply`] is the way of an answer through the first;
//! [`run`] joins them. Beside the two ways stand [`slots`] (who may begin a Job), [`overdue`] (which Job has taken
//! too long), [`status`] (where a request is), [`rules`] (templates and policies, followed as they change, from [`files`]) and [`members`] (which part
//! of the completions is this process's). [`cli`] and [`http`] are the outside, [`telemetry`] is what is told of all
//! this, and [`schema`] writes down what can be asked and what is answered.

pub mod backoff;
pub mod cache;
pub mod cli;
pub mod cluster;
pub mod completion;
pub mod config;
pub mod crash;
pub mod domain;
pub mod files;
pub mod http;
pub mod intake;
pub mod members;
pub mod overdue;
pub mod queue;
pub mod reply;
pub mod rules;
pub mod run;
pub mod schema;
pub mod shutdown;
pub mod slots;
pub mod status;
pub mod telemetry;
