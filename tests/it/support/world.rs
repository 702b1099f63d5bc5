//! One test's part of the stack: a virtual host, a namespace, a tenant.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;

use super::broker::Broker;
use super::dispatcher::build_under_load;
use super::hold::Hold;
use super::stack::STACK;
use super::{Dispatcher, PATIENCE, Producer, Recorder, eventually};

pub(crate) struct World {
    pub(crate) name: String,
    pub(crate) broker: Broker,
    pub(crate) client: Client,
    _hold: Arc<Hold>,
}

impl Drop for World {
    fn drop(&mut self) {
        // Of a test that has failed everything stays to be looked at.
        if !std::thread::panicking() {
            self.broker.remove();
        }
    }
}

impl World {
    /// Beside others that need every part.
    pub(crate) async fn new(name: &str) -> Self {
        Self::under(&Arc::new(Hold::shared().await), name).await
    }

    /// For a test that takes parts away.
    pub(crate) async fn alone(name: &str) -> Self {
        Self::under(&Arc::new(Hold::alone().await), name).await
    }

    /// Beside others that suffer from the same.
    pub(crate) async fn under(hold: &Arc<Hold>, name: &str) -> Self {
        // A second provider would be refused, and there is none.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let suffix = &uuid::Uuid::now_v7().simple().to_string()[24..];
        let name = format!("{name}-{suffix}");
        let broker = Broker::create(&name);
        let kubeconfig = Kubeconfig::read_from(STACK.value("KUBECONFIG")).expect("the stack's kubeconfig");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .expect("a client configuration");
        let client = Client::try_from(config).expect("a client");
        let world = Self { name, broker, client, _hold: Arc::clone(hold) };
        world.create_namespace().await;
        world
    }

    async fn create_namespace(&self) {
        let namespace = serde_json::from_value(json!({"metadata": {"name": self.name}})).expect("a Namespace");
        Api::<Namespace>::all(self.client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .expect("a namespace of its own");
        let secret =
            json!({"metadata": {"name": "seed-credentials"}, "stringData": {"key.json": "{\"project\":\"demo\"}"}});
        let secret = serde_json::from_value(secret).expect("a Secret");
        Api::<Secret>::namespaced(self.client.clone(), &self.name)
            .create(&PostParams::default(), &secret)
            .await
            .expect("a Secret");
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), &self.name);
        // Pods are refused before it is there.
        eventually("the default service account", async || accounts.get_opt("default").await.ok().flatten()).await;
    }

    pub(crate) async fn dispatcher(&self) -> Dispatcher {
        self.dispatcher_with(&[]).await
    }

    /// A dispatcher with these settings over the usual ones; returns when it is ready.
    pub(crate) async fn dispatcher_with(&self, settings: &[&str]) -> Dispatcher {
        self.dispatcher_in(&[], settings).await
    }

    /// A dispatcher with another environment.
    pub(crate) async fn dispatcher_in(&self, environment: &[(&str, &str)], settings: &[&str]) -> Dispatcher {
        let dispatcher = self.dispatcher_begun(environment, settings);
        dispatcher.ready().await;
        dispatcher
    }

    /// A dispatcher of another build.
    pub(crate) async fn dispatcher_of(&self, program: &Path, settings: &[&str]) -> Dispatcher {
        let dispatcher = Dispatcher::start(program, self, &[], settings);
        dispatcher.ready().await;
        dispatcher
    }

    /// A dispatcher that may not be ready for long: the parts that it needs may be away.
    pub(crate) fn dispatcher_begun(&self, environment: &[(&str, &str)], settings: &[&str]) -> Dispatcher {
        Dispatcher::start(&build_under_load(), self, environment, settings)
    }

    pub(crate) async fn producer(&self) -> Producer {
        Producer::connect(&self.broker.url()).await
    }

    pub(crate) fn recorder(&self) -> Recorder {
        Recorder::start(self.jobs())
    }

    pub(crate) fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    pub(crate) async fn all_jobs(&self) -> Vec<Job> {
        self.jobs().list(&ListParams::default()).await.expect("a list of Jobs").items
    }

    /// The only Job there is, once there is one.
    pub(crate) async fn the_job(&self) -> Job {
        eventually("a Job", async || {
            let jobs = self.all_jobs().await;
            assert!(jobs.len() <= 1, "more than one Job");
            jobs.into_iter().next()
        })
        .await
    }

    /// Waits until there is a Job.
    pub(crate) async fn the_first_job(&self) {
        eventually("a Job", async || (!self.all_jobs().await.is_empty()).then_some(())).await;
    }

    /// Waits for it.
    pub(crate) async fn running_pod(&self) -> Pod {
        eventually("a pod runs", async || {
            let pods = self.pods().list(&ListParams::default()).await.expect("a list of pods").items;
            let phase = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.clone());
            pods.into_iter().find(|pod| phase(pod).as_deref() == Some("Running"))
        })
        .await
    }

    /// Waits until no Job and no pod holds a finalizer of ours.
    pub(crate) async fn settled(&self) {
        let begun = Instant::now();
        loop {
            let held = self.held().await;
            if held.is_empty() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "not let go within {PATIENCE:?}:\n{}", held.join("\n"));
            self.pause(Duration::from_millis(100)).await;
        }
    }

    /// What holds a finalizer of ours, as the API server has it.
    async fn held(&self) -> Vec<String> {
        let jobs = self.all_jobs().await;
        let pods = self.pods().list(&ListParams::default()).await.expect("a list of pods").items;
        let ours = |meta: &ObjectMeta| meta.finalizers.iter().flatten().any(|name| name.starts_with("jobquay.dev/"));
        let jobs = jobs.iter().filter(|job| ours(&job.metadata)).map(|job| json!([job.metadata, job.status]));
        let pods = pods.iter().filter(|pod| ours(&pod.metadata)).map(|pod| json!([pod.metadata, pod.status]));
        jobs.chain(pods).map(|held| held.to_string()).collect()
    }

    pub(crate) async fn pause(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
