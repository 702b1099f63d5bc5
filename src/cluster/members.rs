//! The Lease of this process, and the Leases of the others. It says who was seen, and decides nothing.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::json;
use tracing::warn;

use super::watch::WATCH_SECONDS;
use super::{Clients, Error, call};
use crate::backoff::Backoff;
use crate::domain::manifest::MANAGED_BY;
use crate::telemetry::chain;

/// Tells these Leases from others in the namespace.
const ROLE: (&str, &str) = ("app.kubernetes.io/component", "member");
const PREFIX: &str = "jobquay-member-";
/// The name of an object has up to 253 characters; this is enough to know an instance by.
const MAX_INSTANCE: usize = 60;

/// What the watch on Leases saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberSighted {
    Renewed {
        member: String,
        at: Option<Timestamp>,
    },
    Left {
        member: String,
    },
    Relisting,
    Listed,
    /// This process has not the right to see them.
    Denied,
}

/// The Leases of the members, in the dispatchers' own namespace.
pub struct Leases {
    clients: Clients,
    call_timeout: Duration,
    lease: Duration,
    own: String,
}

impl Leases {
    /// `instance` is for people; what follows it makes two processes of one name two members. A call may not take so long that
    /// the Lease is over before the next renewal.
    pub fn new(clients: &Clients, call_timeout: Duration, lease: Duration, instance: &str) -> Self {
        let known = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let instance: String = instance.chars().take(MAX_INSTANCE).map(known).collect();
        let random = &uuid::Uuid::now_v7().simple().to_string()[20..];
        let own = format!("{PREFIX}{}-{random}", instance.trim_matches('-'));
        Self { clients: clients.clone(), call_timeout: call_timeout.min(lease / 2), lease, own }
    }

    /// The name of this member's Lease.
    pub fn own(&self) -> &str {
        &self.own
    }

    /// This moment, as a Lease can say it.
    pub fn moment() -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    /// Says that this process lives at this moment.
    pub async fn renew(&self, at: Timestamp) -> Result<(), Error> {
        let now = MicroTime(at);
        let patch = Patch::Merge(json!({"spec": {"renewTime": now}}));
        let leases = self.api(&self.clients.write);
        match call("renew a Lease", self.call_timeout, leases.patch(&self.own, &PatchParams::default(), &patch)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => self.create(now).await,
            Err(error) => Err(error),
        }
    }

    async fn create(&self, now: MicroTime) -> Result<(), Error> {
        let labels = [MANAGED_BY, ROLE].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let lease = Lease {
            metadata: ObjectMeta { name: Some(self.own.clone()), labels: Some(labels.into()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.own.clone()),
                lease_duration_seconds: Some(i32::try_from(self.lease.as_secs().max(1)).unwrap_or(i32::MAX)),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        };
        let (leases, params) = (self.api(&self.clients.write), PostParams::default());
        match call("create a Lease", self.call_timeout, leases.create(&params, &lease)).await {
            // An earlier try had no answer.
            Err(error) if !error.status().is_some_and(Status::is_already_exists) => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes a member's Lease: the own one on leaving, or that of a member which is long gone.
    pub async fn delete(&self, member: &str) -> Result<(), Error> {
        let leases = self.api(&self.clients.write);
        match call("delete a Lease", self.call_timeout, leases.delete(member, &DeleteParams::default())).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// The members as they are seen, this one among them, for ever: errors are logged and survived.
    pub fn watch(&self) -> impl Stream<Item = MemberSighted> + Send + use<> {
        let selector = [MANAGED_BY, ROLE].map(|(name, value)| format!("{name}={value}")).join(",");
        let config = watcher::Config::default().labels(&selector).timeout(WATCH_SECONDS);
        watcher(self.api(&self.clients.watch), config)
            .backoff(Backoff::for_watches())
            .filter_map(|event| std::future::ready(sighted(event)))
    }

    fn api(&self, client: &kube::Client) -> Api<Lease> {
        Api::namespaced(client.clone(), &self.clients.namespaces.own)
    }
}

fn sighted(event: Result<Event<Lease>, watcher::Error>) -> Option<MemberSighted> {
    let event = match event {
        Ok(event) => event,
        Err(error) => {
            warn!(error = chain(&error), "the watch on members failed; it is opened again");
            return is_denied(&error).then_some(MemberSighted::Denied);
        }
    };
    Some(match event {
        Event::Apply(lease) | Event::InitApply(lease) => {
            let at = lease.spec.and_then(|spec| spec.renew_time).map(|time| time.0);
            MemberSighted::Renewed { member: lease.metadata.name?, at }
        }
        Event::Delete(lease) => MemberSighted::Left { member: lease.metadata.name? },
        Event::Init => MemberSighted::Relisting,
        Event::InitDone => MemberSighted::Listed,
    })
}

fn is_denied(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status.is_forbidden(),
        _ => false,
    }
}
