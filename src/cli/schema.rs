//! `jobquay schema`

use std::io::Write as _;

use clap::{Args, ValueEnum};

use super::Exit;
use crate::schema;

#[derive(Args)]
pub(super) struct Schema {
    /// Which document.
    #[arg(value_enum)]
    what: What,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// The body of a request.
    Request,
    /// An event, as it goes to reply queues and the topic exchange.
    Event,
    /// A file of `templates.dir`.
    Template,
    /// The file `policy.file`.
    Policy,
    /// The configuration file, as JSON.
    Config,
    /// Queues, exchange and messages as AsyncAPI 3.0.
    Asyncapi,
    /// The HTTP API as OpenAPI 3.1.
    Openapi,
}

impl Schema {
    pub(super) fn print(&self) -> Exit {
        let document = match self.what {
            What::Request => schema::request(),
            What::Event => schema::event(),
            What::Template => schema::template(),
            What::Policy => schema::policy(),
            What::Config => schema::config(),
            What::Asyncapi => schema::asyncapi(),
            What::Openapi => schema::openapi(),
        };
        // A reader that went away, such as `head`, has seen what it wanted.
        let _ = std::io::stdout().lock().write_all(schema::print(&document).as_bytes());
        Exit::Ok
    }
}
