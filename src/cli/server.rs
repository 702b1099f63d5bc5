//! A dispatcher that is asked over HTTP (`--server`), by the client that also reaches clusters.

use anyhow::Context;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Method, Request, StatusCode};
use futures_util::io::AsyncBufRead;
use kube::Client;
use serde_json::Value;
use url::Url;

use super::{Exit, Failed};

/// The token of `http.viewers` or `http.operators`. Not a flag: those are seen by everybody on the machine.
pub(super) const TOKEN: &str = "JOBQUAY_TOKEN";

pub(super) struct Server {
    base: Url,
    token: Option<String>,
    client: Client,
}

impl Server {
    pub(super) fn new(base: &Url) -> anyhow::Result<Self> {
        let uri = base.as_str().parse().with_context(|| format!("`{base}` is no address of a server"))?;
        let mut config = kube::Config::new(uri);
        config.default_retry = false;
        let client = Client::try_from(config).context("cannot make an HTTP client")?;
        Ok(Self { base: base.clone(), token: std::env::var(TOKEN).ok().filter(|token| !token.is_empty()), client })
    }

    pub(super) async fn get(&self, path: &[&str], query: &[(&str, String)]) -> Result<Value, Failed> {
        self.call(Method::GET, path, query, None).await
    }

    /// What is answered, as JSON.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Vec<u8>>,
    ) -> Result<Value, Failed> {
        let answer = self.text(method, path, query, body).await?;
        serde_json::from_str(&answer)
            .map_err(|error| (Exit::Failed, anyhow::Error::new(error).context("the answer is no JSON")))
    }

    /// What is answered, as it was written.
    pub(super) async fn text(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<Vec<u8>>,
    ) -> Result<String, Failed> {
        let request = self.request(method, path, query, body.unwrap_or_default())?;
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, kube::client::Body::from(body));
        let response = self.client.send(request).await.map_err(|error| self.unreachable(error.into()))?;
        let status = response.status();
        let body = response.into_body().collect_bytes().await.map_err(|error| self.unreachable(error.into()))?;
        let body = String::from_utf8_lossy(&body).into_owned();
        match status.is_success() {
            true => Ok(body),
            false => Err(refused(status, &body)),
        }
    }

    /// What is answered, as it comes.
    pub(super) async fn read(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<impl AsyncBufRead + use<>, Failed> {
        let request = self.request(Method::GET, path, query, Vec::new())?;
        self.client.request_stream(request).await.map_err(|error| match error {
            kube::Error::Api(status) => {
                let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                refused(code, &status.message)
            }
            error => self.unreachable(error.into()),
        })
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Vec<u8>,
    ) -> Result<Request<Vec<u8>>, Failed> {
        let mut url = self.base.clone();
        let usage = |why: &str| (Exit::Usage, anyhow::anyhow!("`{}`: {why}", self.base));
        url.path_segments_mut()
            .map_err(|()| usage("is no address of a server"))?
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        // The client has the host, and wants what comes after it.
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let mut request = Request::builder().method(method).uri(target).header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        request.body(body).map_err(|error| (Exit::Usage, error.into()))
    }

    fn unreachable(&self, error: anyhow::Error) -> Failed {
        (Exit::Unreachable, error.context(format!("cannot reach {} (`--server`)", self.base)))
    }
}

/// What a server says against a call.
fn refused(status: StatusCode, body: &str) -> Failed {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let why = problem["detail"].as_str().map_or_else(|| status.to_string(), str::to_owned);
    let pointer = problem["pointer"].as_str().map(|pointer| format!(" (at `{pointer}`)")).unwrap_or_default();
    let exit = match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => Exit::Unreachable,
        _ => Exit::Failed,
    };
    let hint = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if std::env::var_os(TOKEN).is_none() => {
            format!("; {TOKEN} is not set")
        }
        _ => String::new(),
    };
    (exit, anyhow::anyhow!("{why}{pointer}{hint}"))
}
