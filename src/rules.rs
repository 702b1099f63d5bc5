//! Keeps the operator's files loaded while they change, and hands the rules to whoever asks them.
//!
//! What is on its way to a Job keeps the rules that it was planned by. A file that turns bad is reported once, and its
//! last good version stays in use.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::cluster::Jobs;
use crate::config::Config;
use crate::domain::catalog::Catalog;
use crate::domain::rules::Rules;
use crate::domain::template::Template;
use crate::domain::trial::trial;
use crate::files::{self, Problem, Shelf, Taken, Texts};
use crate::telemetry::chain;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;

/// The first start waits no longer for the API server's verdicts; those that are missing are asked for again.
const FIRST_TRIAL: Duration = Duration::from_secs(3);

/// How often the API server is asked again about templates that it has refused: by a policy, it may be, that goes.
const REFUSED_AGAIN: Duration = Duration::from_secs(15);

/// What everyone reads the rules from.
pub type Current = watch::Receiver<Arc<Rules>>;

/// The one task that changes the rules.
pub struct Keeper {
    config: Config,
    jobs: Jobs,
    health: Health,
    metrics: Metrics,
    shelf: Shelf,
    refused_tried: Instant,
    /// The policy file as it was read last, and what is wrong with it.
    policy_text: Option<Result<String, String>>,
    policy_problem: Option<Problem>,
    rules: watch::Sender<Arc<Rules>>,
}

/// One look at the files.
struct Look {
    templates: Option<Result<Texts, String>>,
    policy: Option<Result<String, String>>,
}

impl Keeper {
    /// Loads everything. A bad template is reported and left out; a bad policy file is an error.
    pub async fn open(
        config: &Config,
        jobs: Jobs,
        health: Health,
        metrics: Metrics,
    ) -> Result<(Self, Current), Problem> {
        let look = look(config).await;
        let policies = match (&config.policy.file, &look.policy) {
            (Some(path), Some(text)) => files::parse_policies(config, path, text)?,
            _ => files::load_policies(config)?,
        };
        let rules = Rules { catalog: files::empty_catalog(config, jobs.namespaces()), policies: Arc::new(policies) };
        let (sender, current) = watch::channel(Arc::new(rules));
        let mut keeper = Self {
            config: config.clone(),
            jobs,
            health,
            metrics,
            shelf: Shelf::default(),
            refused_tried: Instant::now(),
            policy_text: look.policy,
            policy_problem: None,
            rules: sender,
        };
        keeper.take_templates(look.templates);
        if tokio::time::timeout(FIRST_TRIAL, keeper.try_templates()).await.is_err() {
            warn!("the API server does not say whether it would accept the templates; asking again");
        }
        keeper.publish();
        for problem in keeper.shelf.problems() {
            error!(file = %problem.path.display(), reason = problem.reason, "a template is not used");
        }
        let rules = current.borrow().clone();
        info!(templates = rules.catalog.templates.len(), unusable = keeper.shelf.problems().len(), "templates loaded");
        Ok((keeper, current))
    }

    /// Follows the files until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let interval = self.config.templates.reload;
        if interval.is_zero() {
            return stop.cancelled().await;
        }
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.reload() => {}
            }
        }
    }

    async fn reload(&mut self) {
        let look = look(&self.config).await;
        let policies_changed = self.take_policy(look.policy);
        let taken = self.take_templates(look.templates);
        let before = self.shelf.problems();
        let judged = self.try_templates().await;
        if !policies_changed && taken.is_empty() && !judged {
            return;
        }
        self.publish();
        let refused: Vec<_> = self.shelf.problems().into_iter().filter(|problem| !before.contains(problem)).collect();
        self.report(&taken, &refused);
    }

    /// Says what has changed, once for each file.
    fn report(&self, taken: &Taken, refused: &[Problem]) {
        for path in &taken.removed {
            info!(file = %path.display(), "a template was removed");
            Metrics::count(&self.metrics.reloads, "result", "removed");
        }
        for path in &taken.changed {
            if self.shelf.problem(path).is_none() {
                info!(file = %path.display(), "a template was loaded");
                Metrics::count(&self.metrics.reloads, "result", "loaded");
            }
        }
        let bad = taken.changed.iter().filter_map(|path| self.shelf.problem(path));
        let late = refused.iter().filter(|problem| !taken.changed.contains(&problem.path)).cloned();
        for problem in bad.chain(taken.unreadable.clone()).chain(late) {
            self.refuse(&problem);
        }
    }

    fn refuse(&self, problem: &Problem) {
        error!(file = %problem.path.display(), reason = problem.reason, "not used; the last good version stays");
        Metrics::count(&self.metrics.reloads, "result", "refused");
    }

    fn take_templates(&mut self, read: Option<Result<Texts, String>>) -> Taken {
        match (&self.config.templates.dir, read) {
            (Some(dir), Some(read)) => {
                self.shelf.take(dir, read, &files::template_defaults(&self.config, self.jobs.namespaces()))
            }
            _ => Taken::default(),
        }
    }

    /// `true` when the file is another one, good or bad.
    fn take_policy(&mut self, text: Option<Result<String, String>>) -> bool {
        let (Some(path), Some(text)) = (&self.config.policy.file, text) else { return false };
        if self.policy_text.as_ref() == Some(&text) {
            return false;
        }
        match files::parse_policies(&self.config, path, &text) {
            Ok(policies) => {
                info!(file = %path.display(), "the policies were loaded");
                Metrics::count(&self.metrics.reloads, "result", "loaded");
                self.policy_problem = None;
                self.rules.send_modify(|rules| {
                    *rules = Arc::new(Rules { policies: Arc::new(policies), ..Rules::clone(rules) });
                });
            }
            Err(problem) => {
                self.refuse(&problem);
                self.policy_problem = Some(problem);
            }
        }
        self.policy_text = Some(text);
        true
    }

    /// Asks the API server about what it was not asked yet, and from time to time about what it has refused;
    /// `true` when there was a verdict that is news: for other rules all that is known of requests is found out again.
    async fn try_templates(&mut self) -> bool {
        let catalog = files::empty_catalog(&self.config, self.jobs.namespaces());
        let mut open = self.shelf.unjudged();
        if self.refused_tried.elapsed() >= REFUSED_AGAIN {
            self.refused_tried = Instant::now();
            open.extend(self.shelf.refused());
        }
        let jobs = &self.jobs;
        let tried = open.iter().map(|(path, template)| judge(jobs, &catalog, path, template));
        let verdicts: Vec<_> = join_all(tried).await.into_iter().flatten().collect();
        let mut any_new = false;
        for (path, verdict) in verdicts {
            if verdict.is_ok() && self.shelf.problem(&path).is_some() {
                info!(file = %path.display(), "the API server takes a template that it refused before");
            }
            any_new |= self.shelf.judge(&path, verdict);
        }
        any_new
    }

    fn publish(&self) {
        let templates = self.shelf.templates();
        let problems: Vec<_> = self.shelf.problems().into_iter().chain(self.policy_problem.clone()).collect();
        self.metrics.templates.set(i64::try_from(templates.len()).unwrap_or(i64::MAX));
        let unusable = self.shelf.problems().len();
        self.metrics.templates_unusable.set(i64::try_from(unusable).unwrap_or(i64::MAX));
        self.metrics.policy_unusable.set(i64::from(self.policy_problem.is_some()));
        self.health.set_problems(problems.iter().map(ToString::to_string).collect());
        self.rules.send_modify(|rules| {
            let rules_before = Rules::clone(rules);
            let catalog = Catalog { templates, ..rules_before.catalog };
            *rules = Arc::new(Rules { catalog, ..rules_before });
        });
    }
}

/// Reads the files on a thread of its own: a file system can hang.
async fn look(config: &Config) -> Look {
    let (dir, policy) = (config.templates.dir.clone(), config.policy.file.clone());
    let read = move || Look {
        templates: dir.as_deref().map(files::read_templates),
        policy: policy.as_deref().map(files::read_text),
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(look) => look,
        Err(error) => {
            error!(error = chain(&error), "reading the operator's files died");
            Look { templates: None, policy: None }
        }
    }
}

/// A server dry run. `None` where the API server said nothing for or against the template.
async fn judge(
    jobs: &Jobs,
    catalog: &Catalog,
    path: &std::path::Path,
    template: &Template,
) -> Option<(PathBuf, Result<(), String>)> {
    let path = path.to_owned();
    let trial = match trial(catalog, template) {
        // Its own requests will show.
        None => return Some((path, Ok(()))),
        Some(Err(rejection)) => return Some((path, Err(format!("job: {}", rejection.message)))),
        Some(Ok(trial)) => trial,
    };
    match jobs.of(trial.job.metadata.namespace.as_deref()).dry_run(&trial.job).await {
        Ok(()) => Some((path, Ok(()))),
        Err(error) => {
            let why = error.denial()?;
            if trial.guessed {
                warn!(file = %path.display(), reason = why, "the API server refuses a Job with guessed parameters; give them `examples`");
                return Some((path, Ok(())));
            }
            Some((path, Err(format!("job: the API server refuses it: {why}"))))
        }
    }
}
