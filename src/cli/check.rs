//! `jobquay check`: each thing that `serve` needs, one line each, with what to do where it is missing.

use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Exit;
use crate::cache::Store;
use crate::cluster::{Clients, Jobs, access, joiner};
use crate::config::{Config, Topology};
use crate::domain::catalog::Catalog;
use crate::domain::trial::trial;
use crate::queue::topology;
use crate::telemetry::chain;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use crate::{files, queue};

#[derive(Args)]
pub(super) struct Check {
    /// Only ask the dispatcher at `http.listen` whether it is ready; for container health checks.
    #[arg(long)]
    ready: bool,
}

/// The lines printed so far.
#[derive(Default)]
struct Report {
    wrong: usize,
}

impl Report {
    fn ok(&mut self, what: &str, how: impl std::fmt::Display) {
        println!("ok     {what:30} {how}");
    }

    fn note(&mut self, what: &str, how: impl std::fmt::Display) {
        println!("note   {what:30} {how}");
    }

    fn wrong(&mut self, what: &str, why: impl std::fmt::Display, mend: &str) {
        self.wrong += 1;
        println!("WRONG  {what:30} {why}\n{:38}→ {mend}", "");
    }
}

impl Check {
    pub(super) async fn run(&self, config: &Config) -> Exit {
        if self.ready {
            return ready(config).await;
        }
        let mut report = Report::default();
        check_broker(config, &mut report).await;
        check_cache(config, &mut report).await;
        check_files_and_cluster(config, &mut report).await;
        if report.wrong == 0 {
            return Exit::Ok;
        }
        eprintln!("{} wrong", report.wrong);
        Exit::Failed
    }
}

async fn ready(config: &Config) -> Exit {
    let Some(address) = config.http.listen else {
        eprintln!("error: `http.listen` is empty, so there is nothing to ask");
        return Exit::Usage;
    };
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with("HTTP/1.1 200"))
    };
    match tokio::time::timeout(Duration::from_secs(3), ask).await {
        Ok(Ok(true)) => Exit::Ok,
        Ok(Ok(false)) => Exit::Failed,
        _ => Exit::Unreachable,
    }
}

async fn check_broker(config: &Config, report: &mut Report) {
    let connection = match queue::connect(&config.amqp.url, "jobquay check", config.amqp.connect_timeout).await {
        Ok(connection) => connection,
        Err(error) => {
            return report.wrong(
                "rabbitmq",
                chain(&error),
                "start the broker, or set `amqp.url` to where it is and who you are there",
            );
        }
    };
    report.ok("rabbitmq", &config.amqp.url);
    let lanes: Vec<_> = config.lanes.keys().map(|lane| queue::pending_queue(lane)).collect();
    for name in topology::QUEUES.into_iter().chain([queue::POISON]).chain(lanes.iter().map(String::as_str)) {
        let what = format!("queue {name}");
        match topology::look(&connection, name).await {
            Ok((messages, consumers)) => {
                let state = format!("{messages} messages, {consumers} consumers");
                match topology::QUEUES.contains(&name) {
                    true => check_type(&connection, name, &state, report).await,
                    // Its type cannot be asked for without knowing its other arguments.
                    false => report.ok(&what, state),
                }
            }
            Err(error) if config.amqp.topology == Topology::Declare => {
                report.note(&what, format!("`serve` will declare it ({})", chain(&error)))
            }
            Err(error) => report.wrong(
                &what,
                chain(&error),
                "declare it as a durable quorum queue, or set `amqp.topology` to `declare`",
            ),
        }
    }
    if let Some(exchange) = &config.events.exchange {
        let what = format!("exchange {exchange}");
        match topology::look_at_exchange(&connection, exchange).await {
            Ok(()) => report.ok(&what, "there"),
            Err(error) if config.amqp.topology == Topology::Declare => {
                report.note(&what, format!("`serve` will declare it ({})", chain(&error)));
            }
            Err(error) => {
                report.wrong(&what, chain(&error), "declare it as a durable topic exchange, or empty `events.exchange`")
            }
        }
    }
    match topology::may_publish(&connection).await {
        Ok(()) => report.ok("publish to reply queues", "permitted"),
        Err(error) => report.wrong(
            "publish to reply queues",
            chain(&error),
            "give the user write permission on `^amq\\.default$`",
        ),
    }
}

async fn check_type(connection: &lapin::Connection, name: &str, state: &str, report: &mut Report) {
    let what = format!("queue {name}");
    match topology::is_quorum(connection, name).await {
        Ok(true) => report.ok(&what, format!("quorum, {state}")),
        Ok(false) => report.wrong(
            &what,
            "is no durable quorum queue",
            "a classic queue never parks a message that kills its consumer: declare it with x-queue-type=quorum",
        ),
        Err(error) => report.note(&what, format!("{state}; its type cannot be seen by this user ({})", chain(&error))),
    }
}

async fn check_cache(config: &Config, report: &mut Report) {
    let mend = "start Redis 7 or newer, or set `cache.url`; without it everything runs, and nothing is shared";
    match Store::new(&config.cache, config.results.stale, Health::default(), Metrics::default()) {
        Err(error) => report.wrong("redis", error, mend),
        Ok(store) => match store.ping().await {
            Ok(()) => report.ok("redis", &config.cache.url),
            Err(why) => report.wrong("redis", why, mend),
        },
    }
}

async fn check_files_and_cluster(config: &Config, report: &mut Report) {
    match files::load_policies(config) {
        Ok(_) => report.ok(
            "policy",
            config.policy.file.as_ref().map_or("templates only (no file)".into(), |path| path.display().to_string()),
        ),
        Err(problem) => report.wrong("policy", problem, "mend the file: without it nothing starts"),
    }
    let connected = Clients::connect(&config.kubernetes).await;
    let namespaces = match &connected {
        Ok(clients) => clients.namespaces.clone(),
        Err(_) => config.kubernetes.configured_namespaces(),
    };
    let (catalog, problems) = files::load_catalog(config, &namespaces);
    for problem in &problems {
        report.wrong("template", problem, "mend the file: until then the template is not used");
    }
    let clients = match connected {
        Ok(clients) => clients,
        Err(error) => {
            return report.wrong("kubernetes", chain(&error), "run in a pod with a service account, or set KUBECONFIG");
        }
    };
    report.ok("kubernetes", format!("{} ({}), namespace {}", clients.server, clients.origin, clients.namespace));
    for namespace in clients.namespaces.all() {
        let own = namespace == clients.namespaces.own;
        for right in access::NEEDED.iter().chain(own.then_some(&access::MEMBER).into_iter().flatten()) {
            let what = format!("may {} {}", right.2, right.1);
            match access::allowed(&clients, *right, Some(namespace), config.kubernetes.call_timeout).await {
                Ok(true) => report.ok(&what, format!("allowed in {namespace}")),
                Ok(false) => report.wrong(
                    &what,
                    format!("denied in {namespace}"),
                    "bind the Role of deploy/kubernetes/ to this identity there",
                ),
                Err(error) => {
                    return report.wrong("kubernetes", chain(&error), "is the API server up, and the way to it open?");
                }
            }
        }
    }
    try_templates(config, &clients, &catalog, report).await;
}

/// A server dry run of each template with parameters that fit its schema.
async fn try_templates(config: &Config, clients: &Clients, catalog: &Catalog, report: &mut Report) {
    let (joiner, _joining) = joiner(clients, config.kubernetes.call_timeout);
    let jobs = Jobs::new(clients.clone(), config.kubernetes.call_timeout, 1, joiner, Metrics::default());
    for (name, template) in &catalog.templates {
        let what = format!("template {name}");
        match trial(catalog, template) {
            None => {
                report.note(&what, "loads; its parameters cannot be guessed, so it was not tried (give `examples`)")
            }
            Some(Err(rejection)) => report.wrong(&what, rejection, "mend the template"),
            Some(Ok(trial)) => match jobs.of(trial.job.metadata.namespace.as_deref()).dry_run(&trial.job).await {
                Ok(()) => report.ok(&what, "loads, and the API server would accept it"),
                Err(error) if trial.guessed && error.denial().is_some() => report
                    .note(&what, format!("refused with guessed parameters; give them `examples` ({})", chain(&error))),
                Err(error) => report.wrong(
                    &what,
                    error.words().map_or_else(|| chain(&error), str::to_owned),
                    "mend the template's `job`",
                ),
            },
        }
    }
}
