//! The command line. Data goes to standard output, everything else to standard error.

mod cache;
mod check;
mod config;
mod dead;
mod environment;
mod exchange;
mod follow;
mod man;
mod output;
mod requests;
mod schema;
mod server;
mod source;
mod submit;
mod template;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use url::Url;

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

/// A way to end that is no success.
type Failed = (Exit, anyhow::Error);

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
  jobquay submit request.json --follow              show how it goes on
  jobquay status ID --watch                         where a request is, and what it waits for
  jobquay list --state failed --since 1h            the latest of them
  jobquay logs ID -f                                what its pod writes
  jobquay cancel ID; jobquay retry ID               end it; ask for the same once more
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
    /// Ask this dispatcher over HTTP, with the token in JOBQUAY_TOKEN, instead of broker, Redis and cluster themselves: for
    /// submit, status, list, logs, cancel and retry.
    #[arg(long, global = true, value_name = "URL", env = "JOBQUAY_SERVER")]
    server: Option<Url>,
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
    /// Say where a request is, and what it waits for.
    ///
    /// Exits with 1 where it has ended otherwise than well.
    Status(requests::Status),
    /// List requests, the latest first.
    List(requests::List),
    /// Print what a request's pod writes.
    Logs(requests::Logs),
    /// Take a request off its Job, which ends where nobody else waits for it.
    Cancel(requests::Cancel),
    /// Ask for the same once more, under an id of its own and without a reply.
    Retry(requests::Retry),
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
    /// Print what a shell completes after `jobquay`.
    ///
    /// For bash: `jobquay completions bash > /etc/bash_completion.d/jobquay`.
    Completions { shell: clap_complete::Shell },
    /// Print the manual page; with --dir write one for each command.
    ///
    /// To read it: `jobquay man | man -l -`.
    Man(man::Man),
    /// Print a part of the contract as JSON Schema, or the whole as AsyncAPI.
    Schema(schema::Schema),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let line = CommandLine::parse();
    // These depend on no setting.
    match &line.command {
        Command::Schema(schema) => return ExitCode::from(schema.print() as u8),
        Command::Completions { shell } => return ExitCode::from(man::completions(*shell, CommandLine::command()) as u8),
        Command::Man(man) => return ExitCode::from(man.print(CommandLine::command()) as u8),
        _ => {}
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
    let server = line.settings.server.as_ref();
    let exit = match line.command {
        Command::Serve => serve(&runtime, config),
        Command::Config => config::print(&layered, &config),
        Command::Schema(_) | Command::Completions { .. } | Command::Man(_) => unreachable!("it was printed"),
        Command::Submit(submit) => ended(runtime.block_on(submit.run(&config, server))),
        Command::Status(status) => ended(runtime.block_on(status.run(&config, server))),
        Command::List(list) => ended(runtime.block_on(list.run(&config, server))),
        Command::Logs(logs) => ended(runtime.block_on(logs.run(&config, server))),
        Command::Cancel(cancel) => ended(runtime.block_on(cancel.run(&config, server))),
        Command::Retry(retry) => ended(runtime.block_on(retry.run(&config, server))),
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

fn ended(result: Result<Exit, Failed>) -> Exit {
    result.unwrap_or_else(|(exit, error)| {
        output::print_error(&error);
        exit
    })
}

fn fail(error: &anyhow::Error, exit: Exit) -> ExitCode {
    output::print_error(error);
    ExitCode::from(exit as u8)
}
