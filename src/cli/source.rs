//! Where the commands look that are about requests: a dispatcher over HTTP, or Redis and the cluster themselves.

use std::sync::Arc;

use anyhow::Context;
use axum::http::Method;
use futures_util::io::{AsyncRead, AsyncReadExt};
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use url::Url;

use super::server::Server;
use super::{Exit, Failed};
use crate::cache::Notes;
use crate::cluster::{Clients, Jobs};
use crate::config::Config;
use crate::status::{Lookout, Sought};
use crate::telemetry::metrics::Metrics;

pub(super) enum Source {
    Server(Server),
    Parts(Box<Lookout>),
}

impl Source {
    pub(super) async fn open(config: &Config, server: Option<&Url>) -> Result<Self, Failed> {
        if let Some(server) = Self::server(server)? {
            return Ok(Self::Server(server));
        }
        let unreachable = |error: anyhow::Error| (Exit::Unreachable, error);
        let clients =
            Clients::connect(&config.kubernetes).await.context("cannot reach a cluster").map_err(unreachable)?;
        let jobs = Jobs::for_reading(clients, &config.kubernetes, Metrics::default());
        let notes = Notes::new(&config.cache, config.status.keep)
            .with_context(|| format!("cannot use {} (`cache.url`)", config.cache.url))
            .map_err(unreachable)?;
        Ok(Self::Parts(Box::new(Lookout { notes: Some(Arc::new(notes)), jobs })))
    }

    /// The dispatcher that is to be asked, if one is.
    pub(super) fn server(base: Option<&Url>) -> Result<Option<Server>, Failed> {
        base.map(Server::new).transpose().map_err(|error| (Exit::Usage, error))
    }

    /// What is known of a request, as `GET /api/v1/requests/{id}` says it.
    pub(super) async fn status(&self, request_id: &str) -> Result<Value, Failed> {
        match self {
            Self::Server(server) => server.get(&["requests", request_id], &[]).await,
            Self::Parts(lookout) => match lookout.status(request_id).await {
                Some(status) => Ok(json!(status)),
                None => Err(unknown(request_id)),
            },
        }
    }

    /// The same, as it was written.
    pub(super) async fn text(&self, request_id: &str) -> Result<String, Failed> {
        match self {
            Self::Server(server) => server.text(Method::GET, &["requests", request_id], &[], None).await,
            Self::Parts(lookout) => match lookout.status(request_id).await {
                Some(status) => serde_json::to_string(&status).map_err(|error| (Exit::Failed, error.into())),
                None => Err(unknown(request_id)),
            },
        }
    }

    /// Requests that fit, the latest first; as many as there are, up to `limit`.
    pub(super) async fn list(&self, sought: &Sought, limit: usize) -> Result<Vec<Value>, Failed> {
        match self {
            Self::Server(server) => list_of(server, sought, limit).await,
            Self::Parts(lookout) => {
                let (mut found, mut behind) = (Vec::new(), None);
                while found.len() < limit {
                    let page = lookout.page(sought, behind, limit - found.len()).await;
                    let page = page.map_err(|why| {
                        (Exit::Unreachable, anyhow::anyhow!(why).context("cannot ask Redis (`cache.url`)"))
                    })?;
                    found.extend(page.requests.iter().map(|status| json!(status)));
                    behind = page.next;
                    if behind.is_none() {
                        break;
                    }
                }
                Ok(found)
            }
        }
    }

    /// What the last pod of its Job writes.
    pub(super) async fn log(
        &self,
        request_id: &str,
        follow: bool,
        tail: Option<u32>,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, Failed> {
        let lookout = match self {
            Self::Server(server) => {
                let mut query = vec![("follow", follow.to_string())];
                query.extend(tail.map(|lines| ("tail", lines.to_string())));
                let log = server.read(&["requests", request_id, "logs"], &query).await?;
                return Ok(Box::new(Box::pin(log)));
            }
            Self::Parts(lookout) => lookout,
        };
        let status = lookout.status(request_id).await.ok_or_else(|| unknown(request_id))?;
        let failed = |why: &str| (Exit::Failed, anyhow::anyhow!("{why}"));
        let job = status.job.ok_or_else(|| failed("it stands on no Job, and so there is no log"))?;
        let jobs = lookout.jobs.of(Some(&job.namespace));
        let away = |error: crate::cluster::Error| {
            (Exit::Unreachable, anyhow::Error::new(error).context("cannot read its log"))
        };
        let Some(pod) = jobs.last_pod(&job.name).await.map_err(away)? else {
            return Err(failed("its pod is gone, and its log with it"));
        };
        let log = jobs.live_log(&pod, follow, tail).await.map_err(away)?;
        Ok(Box::new(Box::pin(log.boxed().into_async_read())))
    }
}

async fn list_of(server: &Server, sought: &Sought, limit: usize) -> Result<Vec<Value>, Failed> {
    let Sought { state, template, producer, key, since } = sought;
    let mut query: Vec<(&str, String)> = Vec::new();
    query.extend(state.map(|state| ("state", state.as_str().to_owned())));
    query.extend(template.clone().map(|template| ("template", template)));
    query.extend(producer.clone().map(|producer| ("producer", producer)));
    query.extend(key.clone().map(|key| ("key", key)));
    query.extend(since.map(|since| ("since", since.to_string())));
    let (mut found, mut after) = (Vec::new(), None);
    while found.len() < limit {
        let mut query = query.clone();
        query.push(("limit", (limit - found.len()).min(500).to_string()));
        query.extend(after.take().map(|after| ("after", after)));
        let mut page = server.get(&["requests"], &query).await?;
        if let Value::Array(requests) = page["requests"].take() {
            found.extend(requests);
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            break;
        }
    }
    Ok(found)
}

pub(super) fn unknown(request_id: &str) -> Failed {
    (Exit::Failed, anyhow::anyhow!("nothing is known of a request `{}`", super::output::one_line(request_id)))
}

/// Writes a log to standard output until it ends.
pub(super) async fn copy(mut log: impl AsyncRead + Unpin) -> Result<(), Failed> {
    use std::io::Write as _;
    let mut piece = vec![0; 8 << 10];
    loop {
        let count = log.read(&mut piece).await.map_err(|error| (Exit::Unreachable, error.into()))?;
        let mut out = std::io::stdout().lock();
        // A reader that went away, such as `head`, has seen what it wanted.
        if count == 0 || out.write_all(&piece[..count]).and_then(|()| out.flush()).is_err() {
            return Ok(());
        }
    }
}
