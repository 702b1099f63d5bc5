//! The command line. Data goes to standard output, everything else to standard error.

mod cache;
mod check;
mod config;
mod dead;
mod environment;
mod output;
mod schema;
mod submit;
mod template;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::cache::Store;
use crate::config::{Config, Layered};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use crate::{run, telemetry};

/// Exit codes, the same for every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Ok = 0,
    /// The job failed or was rejected, or a check found something.
    Failed = 1,
    /// Also what the parser of the command line exits with.
    Usage = 2,
    Unreachable = 3,
    TimedOut = 124,
}

#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES, disable_help_subcommand = true)]
struct CommandLine {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  jobquay serve                                     run a dispatcher with ./jobquay.toml
  jobquay check                                     what is missing, and how to mend it
  jobquay submit request.json --wait                send a request and print its result
  jobquay submit --template hello --param name=Ada --wait -o event
  jobquay template render hello --param name=Ada    the Job that it would run
  jobquay dead ls                                   what could be neither answered nor run
  jobquay cache explain one.json other.json         why two requests share a result, or do not
  jobquay config                                    every setting, its value and where it came from
  jobquay schema request                            what a request may hold, as JSON Schema

Settings come from a file, the environment and flags, the later ones win:
  jobquay.toml                  [amqp]
                                url = \"amqp://…\"
  environment                   JOBQUAY__AMQP__URL=amqp://…
  flag                          --set amqp.url=amqp://…

Exit codes: 0 done · 1 failed or rejected · 2 usage · 3 cannot reach · 124 timed out";

#[derive(Args)]
struct Settings {
    /// Configuration file; without it ./jobquay.toml or /etc/jobquay/jobquay.toml, if there.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, over file and environment; may be repeated.
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the dispatcher.
    ///
    /// Takes requests from `jobquay.requests`, answers from the cache or with a Kubernetes Job, and
    /// publishes the events. SIGTERM finishes what is held and hands back the rest.
    Serve,
    /// Send a request, and with --wait print what came of it.
    Submit(submit::Submit),
    /// Look whether everything that `serve` needs is there and permitted.
    Check(check::Check),
    /// List, check and render templates.
    Template(template::Templates),
    /// Look at what was set aside, and send it again.
    Dead(dead::Dead),
    /// Look at kept results, remove them, and compare what keys are made of.
    Cache(cache::Cache),
    /// Print the effective configuration with the origin of each value.
    Config,
    /// Print a part of the contract as JSON Schema, or the whole as AsyncAPI.
    Schema(schema::Schema),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    // What requests look like does not depend on any setting.
    if let Command::Schema(schema) = &line.command {
        return ExitCode::from(schema.print() as u8);
    }
    if matches!(line.command, Command::Serve | Command::Dead(_)) {
        environment::complete();
    }
    // Only one provider is compiled in; a second installation is refused, and there is none.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let layered = match layered(&line.settings) {
        Ok(layered) => layered,
        Err(error) => return fail(&error.into(), Exit::Usage),
    };
    let config = match layered.config() {
        Ok(config) => config,
        Err(error) => return fail(&error.into(), Exit::Usage),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(environment::WORKER_STACK_BYTES)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into(), Exit::Failed),
    };
    let exit = match line.command {
        Command::Serve => serve(&runtime, config),
        Command::Config => config::print(&layered, &config),
        Command::Schema(schema) => schema.print(),
        Command::Submit(submit) => runtime.block_on(submit.run(&config)),
        Command::Check(check) => runtime.block_on(check.run(&config)),
        Command::Template(template) => runtime.block_on(template.run(&config)),
        Command::Dead(dead) => runtime.block_on(dead.run(&config)),
        Command::Cache(cache) => runtime.block_on(cache.run(&config)),
    };
    // What is left on the runtime has nothing to say any more; a thread stuck in a system call must not hold the exit.
    runtime.shutdown_background();
    ExitCode::from(exit as u8)
}

/// The result cache, for a command; the inner text says why it does not answer.
async fn store(config: &Config) -> Result<Store, String> {
    let store = Store::new(&config.cache, &config.results, Health::default(), Metrics::default())
        .map_err(|error| error.to_string())?;
    store.ping().await?;
    Ok(store)
}

fn serve(runtime: &tokio::runtime::Runtime, config: Config) -> Exit {
    // The guard is held until the end, for the last lines.
    let ended = telemetry::init(&config.log).and_then(|_guard| runtime.block_on(run::run(config)));
    match ended {
        Ok(()) => Exit::Ok,
        Err(error) => {
            output::print_error(&error);
            Exit::Failed
        }
    }
}

fn layered(settings: &Settings) -> Result<Layered, crate::config::Error> {
    let usual = ["jobquay.toml", "/etc/jobquay/jobquay.toml"].map(Path::new);
    let file = settings.config.as_deref().or_else(|| usual.into_iter().find(|path| path.exists()));
    Layered::load(file, std::env::vars(), &settings.set)
}

fn fail(error: &anyhow::Error, exit: Exit) -> ExitCode {
    output::print_error(error);
    ExitCode::from(exit as u8)
}
