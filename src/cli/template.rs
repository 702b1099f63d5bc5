//! `jobquay template`: what the operator's templates are, whether they load, and what they would run.
//! Nothing is created.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Map, Value, json};

use super::Exit;
use super::submit::parse_param;
use crate::cluster::Clients;
use crate::config::Config;
use crate::domain::key::RequestKey;
use crate::domain::namespaces::Namespaces;
use crate::domain::rejection::Rejection;
use crate::domain::request::{self, Arrival, Request};
use crate::domain::rules::Rules;
use crate::domain::template::Template;
use crate::files::{self, Problem};

#[derive(Args)]
pub(super) struct Templates {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the templates with their parameters; those marked `*` must be given.
    Ls,
    /// Load template files and say what is wrong with them; asks nobody, and so runs anywhere.
    Lint {
        /// A file or a directory; without it `templates.dir`.
        path: Option<PathBuf>,
    },
    /// Print the Job that a request would run, and what key, cache and policy say to it.
    Render(Render),
}

#[derive(Args)]
struct Render {
    template: String,
    /// A parameter of the template; JSON if it is (`width=128`), else text (`name=Ada`). May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_param)]
    param: Vec<(String, Value)>,
    /// Ask the policies as this RabbitMQ user; without it as a message that names none.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// How to print the Job.
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Yaml,
    Json,
}

impl Templates {
    pub(super) async fn run(&self, config: &Config) -> Exit {
        let ended = match &self.command {
            Command::Ls => ls(config, &namespaces(config).await),
            Command::Lint { path } => lint(config, &namespaces(config).await, path.as_deref()),
            Command::Render(render) => render.run(config).await,
        };
        ended.unwrap_or_else(|error| {
            super::output::print_error(&error);
            Exit::Failed
        })
    }
}

fn ls(config: &Config, namespaces: &Namespaces) -> anyhow::Result<Exit> {
    let (catalog, problems) = files::load_catalog(config, namespaces);
    let width = catalog.templates.keys().map(String::len).max().unwrap_or_default();
    let mut out = std::io::stdout().lock();
    for (name, template) in &catalog.templates {
        writeln!(out, "{name:width$}  {:9}  {}", cache(template), parameters(template))?;
    }
    Ok(report(&problems))
}

fn cache(template: &Template) -> String {
    match template.cache.ttl {
        _ if template.cache.never => "never".into(),
        Some(ttl) => format!("{}s", ttl.as_secs()),
        None => "default".into(),
    }
}

fn parameters(template: &Template) -> String {
    let mark = |(name, required): (&str, bool)| format!("{name}{}", if required { "*" } else { "" });
    template.parameters().into_iter().map(mark).collect::<Vec<_>>().join(" ")
}

fn lint(config: &Config, namespaces: &Namespaces, path: Option<&Path>) -> anyhow::Result<Exit> {
    let path = path.or(config.templates.dir.as_deref()).context("give a FILE or DIR, or set `templates.dir`")?;
    if !path.is_dir() {
        let loaded = files::load_template(path, &files::read_text(path), &files::template_defaults(config, namespaces));
        return Ok(match loaded {
            Ok(template) => {
                println!("ok     {}", template.name);
                Exit::Ok
            }
            Err(problem) => report(&[problem]),
        });
    }
    let mut config = config.clone();
    config.templates.dir = Some(path.to_owned());
    let (catalog, problems) = files::load_catalog(&config, namespaces);
    let mut out = std::io::stdout().lock();
    for name in catalog.templates.keys() {
        writeln!(out, "ok     {name}")?;
    }
    Ok(report(&problems))
}

/// What is wrong, a line for each.
fn report(problems: &[Problem]) -> Exit {
    problems.iter().for_each(|problem| eprintln!("WRONG  {problem}"));
    if problems.is_empty() { Exit::Ok } else { Exit::Failed }
}

impl Render {
    async fn run(&self, config: &Config) -> anyhow::Result<Exit> {
        let rules = rules(config).await?;
        let request = match self.request(config) {
            Ok(request) => request,
            Err(rejection) => return Ok(refused("request", &rejection)),
        };
        // The Job is shown whatever the policy says to it.
        let plan = match rules.catalog.plan(&request) {
            Ok(plan) => plan,
            Err(rejection) => return Ok(refused("request", &rejection)),
        };
        let verdict = rules.plan(&request);
        let plan = match &verdict {
            Ok(allowed) => allowed,
            Err(_) => &plan,
        };
        match plan.manifest(&request.waiter) {
            Ok(job) => self.print(&job)?,
            Err(rejection) => return Ok(refused("request", &rejection)),
        }
        eprintln!("key     {}", plan.key);
        eprintln!("cache   {}", cached(config, &plan.key).await);
        match &verdict {
            Ok(_) => {
                let policy = rules.policies.terms(self.user.as_deref()).map_or("", |terms| terms.policy.as_str());
                eprintln!("policy  allowed by `{policy}`");
                Ok(Exit::Ok)
            }
            Err(rejection) => Ok(refused("policy", rejection)),
        }
    }

    fn request(&self, config: &Config) -> Result<Request, Rejection> {
        let params: Map<_, _> = self.param.iter().cloned().collect();
        let body = json!({"template": self.template, "params": params}).to_string().into_bytes();
        let minted_id = uuid::Uuid::now_v7().to_string();
        let arrival = Arrival { user_id: self.user.clone(), ..Arrival::bare(body, minted_id, Timestamp::now()) };
        let asked = request::parse(&arrival, config.intake.max_body).map_err(|unparsed| unparsed.rejection)?;
        Ok(asked.run().expect("a body with a template asks for a run"))
    }

    fn print(&self, job: &Job) -> anyhow::Result<()> {
        let text = match self.output {
            Output::Json => serde_json::to_string_pretty(job)? + "\n",
            Output::Yaml => serde_saphyr::to_string(job)?,
        };
        Ok(std::io::stdout().lock().write_all(text.as_bytes())?)
    }
}

/// The rules as a dispatcher with this configuration would have them.
async fn rules(config: &Config) -> anyhow::Result<Rules> {
    let policies = files::load_policies(config).context("cannot use the policy file")?;
    let namespaces = namespaces(config).await;
    let (catalog, problems) = files::load_catalog(config, &namespaces);
    report(&problems);
    Ok(Rules { catalog, policies: policies.into() })
}

async fn namespaces(config: &Config) -> Namespaces {
    // Reads a configuration and asks nobody; without one nothing runs, and the Job can be shown all the same.
    match Clients::connect(&config.kubernetes).await {
        Ok(clients) => clients.namespaces,
        Err(_) => config.kubernetes.configured_namespaces(),
    }
}

async fn cached(config: &Config, key: &RequestKey) -> String {
    let store = match super::store(config).await {
        Ok(store) => store,
        Err(why) => return format!("cannot ask: {why}"),
    };
    match store.look_up_patiently(key, None).await.entry {
        Some(entry) => format!(
            "hit: {} bytes, {} s old, kept until {}",
            entry.payload.bytes.len(),
            entry.age(Timestamp::now()).as_secs(),
            entry.expires_at
        ),
        None => "miss: a Job would run".into(),
    }
}

fn refused(what: &str, rejection: &Rejection) -> Exit {
    eprintln!("{what:7} refused: {rejection}");
    Exit::Failed
}
