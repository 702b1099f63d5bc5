//! Where the cluster is, and the clients that talk to it.

use std::fmt;
use std::time::Duration;

use http::Response;
use kube::client::{ClientBuilder, DynBody};
use kube::config::KubeConfigOptions;
use kube::{Client, Config};
use tower::util::MapResponseLayer;

use super::{Error, ServerTime};
use crate::config::Kubernetes;
use crate::domain::namespaces::Namespaces;

/// A watch lasts 25 s (see `watch`); an API server that says nothing for longer is not there.
const SILENCE: Duration = Duration::from_secs(35);

/// Which configuration was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    InCluster,
    Kubeconfig,
}

/// Separate connections for what must not wait for each other: a burst of creates, a read of a large
/// log, and the watch that says what has ended.
#[derive(Clone)]
pub struct Clients {
    pub write: Client,
    pub read: Client,
    pub watch: Client,
    /// The one that calls go to.
    pub namespace: String,
    pub namespaces: Namespaces,
    pub server: String,
    /// What its answers say of its clock.
    pub time: ServerTime,
    pub origin: Origin,
}

impl Clients {
    /// In-cluster configuration first, then kubeconfig, so that a kubeconfig that lies about in an
    /// image cannot lead a pod to another cluster.
    pub async fn connect(settings: &Kubernetes) -> Result<Self, Error> {
        let (mut config, origin) = match Config::incluster() {
            Ok(config) => (config, Origin::InCluster),
            Err(in_cluster) => {
                let config = Config::from_kubeconfig(&KubeConfigOptions::default())
                    .await
                    .map_err(|source| Error::Configuration { in_cluster: in_cluster.to_string(), source })?;
                (config, Origin::Kubeconfig)
            }
        };
        if let Some(server) = &settings.server {
            let wrong = |_| Error::Server { key: "kubernetes.server", value: server.clone() };
            config.cluster_url = server.parse().map_err(wrong)?;
        }
        if let Some(name) = &settings.tls_server_name {
            config.tls_server_name = Some(name.clone());
        }
        // Retries are made where it is known what a call has done.
        config.default_retry = false;
        config.connect_timeout = Some(settings.call_timeout);
        let time = ServerTime::default();
        let client = |config: Config| {
            let time = time.clone();
            let follow = MapResponseLayer::new(move |response: Response<Box<DynBody>>| {
                time.follow(response.headers());
                response
            });
            let builder = ClientBuilder::try_from(config).map_err(|error| Error::Client(Box::new(error)))?;
            Ok::<_, Error>(builder.with_layer(&follow).build())
        };
        // Calls are bounded one by one; the watch, which makes its own, by silence.
        let mut watch = config.clone();
        watch.read_timeout = Some(SILENCE);
        watch.reset_reader_on_write = true;
        let own = settings.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self {
            write: client(config.clone())?,
            read: client(config.clone())?,
            watch: client(watch)?,
            namespace: own.clone(),
            namespaces: Namespaces { own, further: settings.namespaces.clone() },
            server: config.cluster_url.to_string(),
            time: time.clone(),
            origin,
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InCluster => "in-cluster",
            Self::Kubeconfig => "kubeconfig",
        })
    }
}
