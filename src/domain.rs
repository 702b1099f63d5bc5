//! The rules, pure: values in, values out.
//!
//! Nothing here does I/O or waits, and nothing here knows the clients of RabbitMQ, Redis or
//! Kubernetes (a test reads the imports). Kubernetes' own types are plain data and are used as they are.
//!
//! Read in this order: [`request`], [`template`] and [`policy`], [`catalog`], [`key`], [`manifest`],
//! [`job`], [`outcome`], [`event`].

pub mod catalog;
pub mod event;
pub mod fields;
pub mod job;
pub mod json;
pub mod key;
pub mod manifest;
pub mod outcome;
pub mod policy;
pub mod rejection;
pub mod request;
pub mod template;
pub mod waiter;
mod yaml;
