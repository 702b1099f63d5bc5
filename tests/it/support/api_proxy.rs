//! A proxy in front of the real API server, for answers that it cannot be made to give on demand: those that
//! are lost after the call was carried out, and watches that lie.

mod rules;
mod watching;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::World;
use super::stack::STACK;
pub(crate) use rules::{Calls, Fault};
use rules::{Rule, calls_of};
pub(crate) use watching::Lie;

/// Lists that may be said again.
const LISTS: usize = 100;

type Body = UnsyncBoxBody<Bytes, io::Error>;

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    met: usize,
    /// Of each kind.
    watches: HashMap<Calls, Watches>,
    /// What the first lists of Jobs have said.
    lists: Vec<Bytes>,
    /// Whose turn it is in the crowd.
    crowd: Arc<tokio::sync::Mutex<()>>,
}

/// Watches that are open, or were.
#[derive(Default)]
struct Watches {
    /// What they have said, for one that says it again.
    said: Vec<Bytes>,
    /// Ends those that are open.
    cut: CancellationToken,
}

/// The proxy; it ends with its handle.
pub(crate) struct ApiProxy {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
    serving: JoinHandle<()>,
}

impl ApiProxy {
    pub(crate) async fn start(world: &World) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let kubeconfig = STACK.dir.join("log").join(format!("{}.kubeconfig", world.name));
        let named = |name: &str, value| json!({"name": "proxy", name: value});
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [named("cluster", json!({"server": format!("http://{address}")}))],
            "contexts": [named("context", json!({"cluster": "proxy", "user": "proxy"}))],
            "users": [named("user", json!({}))],
        });
        std::fs::write(&kubeconfig, config.to_string()).expect("a kubeconfig");
        let state = Arc::new(Mutex::new(State::default()));
        let serving = tokio::spawn(serve(listener, upstream().await, Arc::clone(&state)));
        Self { kubeconfig, port: address.port(), state, serving }
    }

    /// The environment of a dispatcher that goes through it.
    pub(crate) fn environment(&self) -> [(&str, &str); 1] {
        [("KUBECONFIG", self.kubeconfig.to_str().expect("a path that is text"))]
    }

    /// The next so many of these calls fail like this. Watches that are open end, so that there is a next one.
    pub(crate) fn fault(&self, calls: Calls, fault: Fault, times: usize) {
        self.add(Rule { calls, namespace: None, fault, left: times });
    }

    /// The same for calls in this namespace alone.
    pub(crate) fn fault_in(&self, namespace: &str, calls: Calls, fault: Fault, times: usize) {
        self.add(Rule { calls, namespace: Some(namespace.to_owned()), fault, left: times });
    }

    fn add(&self, rule: Rule) {
        let mut state = self.state.lock().expect("nobody panics with it");
        if rule.calls.are_watches() {
            std::mem::take(&mut state.watches.entry(rule.calls).or_default().cut).cancel();
        }
        state.rules.push(rule);
    }

    /// How many lists of Jobs can be said again.
    pub(crate) fn lists(&self) -> usize {
        self.state.lock().expect("nobody panics with it").lists.len()
    }

    /// How many calls have met a fault since it last healed.
    pub(crate) fn met(&self) -> usize {
        self.state.lock().expect("nobody panics with it").met
    }

    /// From now on every call passes; returns how many did not.
    pub(crate) fn heal(&self) -> usize {
        let mut state = self.state.lock().expect("nobody panics with it");
        state.rules.clear();
        std::mem::take(&mut state.met)
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn upstream() -> Client {
    let kubeconfig = Kubeconfig::read_from(STACK.value("KUBECONFIG")).expect("the stack's kubeconfig");
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a client configuration");
    config.default_retry = false;
    Client::try_from(config).expect("a client")
}

async fn serve(listener: TcpListener, upstream: Client, state: Arc<Mutex<State>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (upstream, state) = (upstream.clone(), Arc::clone(&state));
        let service = service_fn(move |request| answer(request, upstream.clone(), Arc::clone(&state)));
        connections.spawn(async move {
            // A reset is an error here, and wanted.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// An error ends the connection.
async fn answer(request: Request<Incoming>, upstream: Client, state: Arc<Mutex<State>>) -> io::Result<Response<Body>> {
    let fault = due(&request, &state);
    match fault {
        Some(Fault::Says(code)) => return Ok(status(code)),
        Some(Fault::Resets) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(Fault::Hangs) => std::future::pending().await,
        Some(Fault::CommitsLate(delay)) => {
            let (head, body) = read(request).await?;
            // Whoever has asked may have gone.
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                send(head, body, upstream).await.map(drop)
            });
            return std::future::pending().await;
        }
        Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
        Some(Fault::Crowded(each)) => {
            let crowd = Arc::clone(&state.lock().expect("nobody panics with it").crowd);
            let work = async move {
                let _turn = crowd.lock().await;
                tokio::time::sleep(each).await;
            };
            tokio::spawn(work).await.expect("sleeping does not panic");
        }
        _ => {}
    }
    let calls = calls_of(&request);
    let lists_jobs = calls.contains(&Calls::JobLists);
    let watched = calls.into_iter().find(|calls| calls.are_watches());
    let mut response = forward(request, upstream).await?;
    if lists_jobs && response.status().is_success() {
        let (head, body) = response.into_parts();
        let mut list = body.collect().await?.to_bytes();
        let lists = &mut state.lock().expect("nobody panics with it").lists;
        // An hour of load makes thousands.
        if lists.len() < LISTS {
            lists.push(list.clone());
        }
        if let Some(Fault::SaysList(number)) = fault {
            list = lists[number].clone();
        }
        response = Response::from_parts(head, whole(list));
    }
    match fault {
        Some(Fault::SaysLines(count)) => {
            let text = response.into_body().collect().await?.to_bytes();
            let lines: String = String::from_utf8_lossy(&text).split_inclusive('\n').take(count).collect();
            Ok(Response::new(whole(lines)))
        }
        Some(Fault::CommitsAndSays(code)) => drain(response).await.map(|()| status(code)),
        Some(Fault::CommitsAndResets) => drain(response).await.and(Err(io::ErrorKind::ConnectionReset.into())),
        Some(Fault::CommitsAndHangs) => {
            drain(response).await?;
            std::future::pending().await
        }
        _ => Ok(match (watched, fault) {
            (Some(watched), Some(Fault::Lies(lie))) => watching::tell(response, watched, Some(lie), state),
            (Some(watched), _) => watching::tell(response, watched, None, state),
            (None, _) => response,
        }),
    }
}

fn due(request: &Request<Incoming>, state: &Mutex<State>) -> Option<Fault> {
    let mut state = state.lock().expect("nobody panics with it");
    let rule = state.rules.iter_mut().find(|rule| rule.concerns(request))?;
    rule.left -= 1;
    let fault = rule.fault;
    state.met += 1;
    Some(fault)
}

async fn forward(request: Request<Incoming>, upstream: Client) -> io::Result<Response<Body>> {
    let (head, body) = read(request).await?;
    send(head, body, upstream).await
}

async fn read(request: Request<Incoming>) -> io::Result<(Parts, Bytes)> {
    let (head, body) = request.into_parts();
    Ok((head, body.collect().await.map_err(io::Error::other)?.to_bytes()))
}

async fn send(parts: Parts, body: Bytes, upstream: Client) -> io::Result<Response<Body>> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut onward = Request::builder().method(parts.method).uri(path);
    for name in ["content-type", "accept"] {
        if let Some(value) = parts.headers.get(name) {
            onward = onward.header(name, value);
        }
    }
    let onward = onward.body(kube::client::Body::from(body.to_vec())).map_err(io::Error::other)?;
    let response = upstream.send(onward).await.map_err(io::Error::other)?;
    let (head, body) = response.into_parts();
    let mut answer = Response::builder().status(head.status);
    if let Some(kind) = head.headers.get("content-type") {
        answer = answer.header("content-type", kind);
    }
    answer.body(body.map_err(io::Error::other).boxed_unsync()).map_err(io::Error::other)
}

async fn drain(response: Response<Body>) -> io::Result<()> {
    response.into_body().collect().await.map(drop)
}

/// What the API server says instead of an object.
fn status(code: u16) -> Response<Body> {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    // As where a Role has been taken away.
    let message = if code == 403 { "jobs is forbidden: User \"it\" cannot do that on demand" } else { "on demand" };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code, "message": message,
    });
    let answer = Response::builder().status(code).header("content-type", "application/json").header("retry-after", "1");
    answer.body(whole(body.to_string())).expect("a response")
}

fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|error: Infallible| match error {}).boxed_unsync()
}

fn streamed(lines: impl futures_util::Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    StreamBody::new(lines.map(|line| line.map(Frame::data))).boxed_unsync()
}
