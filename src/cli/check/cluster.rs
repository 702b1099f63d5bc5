//! The operator's files, the API server, and what the dispatcher may do there.

use super::Report;
use crate::cluster::access::{self, Right};
use crate::cluster::{Clients, Jobs, joiner};
use crate::config::Config;
use crate::domain::catalog::Catalog;
use crate::domain::trial::trial;
use crate::files;
use crate::telemetry::chain;
use crate::telemetry::metrics::Metrics;

/// What nothing here ever does, and what somebody would do who has taken a dispatcher over.
const TOO_MUCH: [Right; 5] = [
    ("", "secrets", "get"),
    ("", "pods", "create"),
    ("", "pods/exec", "create"),
    ("rbac.authorization.k8s.io", "rolebindings", "create"),
    ("apps", "deployments", "patch"),
];

pub(super) async fn check(config: &Config, report: &mut Report) {
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
    check_excess(config, &clients, report).await;
    let ahead = clients.time.ahead();
    match ahead.is_zero() {
        true => report.ok("clock", "in step with the API server's"),
        false => report.note(
            "clock",
            format!(
                "the API server's is {ahead:#} ahead of this one; `deadline` and `max_age` are judged by a dispatcher's"
            ),
        ),
    }
    try_templates(config, &clients, &catalog, report).await;
}

/// Rights that a dispatcher has no use for.
async fn check_excess(config: &Config, clients: &Clients, report: &mut Report) {
    for namespace in clients.namespaces.all() {
        for right in TOO_MUCH {
            // What could not be asked was told of the needed ones.
            if let Ok(true) = access::allowed(clients, right, Some(namespace), config.kubernetes.call_timeout).await {
                let what = format!("may {} {}", right.2, right.1);
                report.note(
                    &what,
                    format!("allowed in {namespace}, and not needed: bind the Role of deploy/kubernetes/ alone"),
                );
            }
        }
    }
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
