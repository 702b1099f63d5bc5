//! What a pod wrote: its result, or why it failed.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};

use super::{Error, Jobs};
use crate::domain::job::PodVerdict;
use crate::domain::outcome::{Failure, FailureCode, Payload, PodReport};
use crate::domain::template::{ResultPlan, ResultSource};

/// The kubelet cuts a termination message here, so one of this length may have been longer.
const TERMINATION_MESSAGE_LIMIT: usize = 4096;

impl Jobs {
    /// Reads the result of a Job that succeeded from its pods, or from the one that its success was `decided` by; one of
    /// them may be known to have `ended_now`. The inner error is final: a result that is not to be had, or not in its
    /// allowed size.
    pub async fn result(
        &self,
        pods: &[Pod],
        plan: ResultPlan,
        decided: Option<&PodVerdict>,
        ended_now: bool,
    ) -> Result<Result<Payload, Failure>, Error> {
        let is_decided = |pod: &Pod| decided.is_none_or(|verdict| pod.metadata.uid.as_ref() == Some(&verdict.pod));
        let succeeded: Vec<_> = pods.iter().filter(|pod| phase(pod) == "Succeeded" && is_decided(pod)).collect();
        let Some(first) = succeeded.first() else {
            return Ok(Err(Failure::of_result(FailureCode::ResultLost, "the Job succeeded, but its pod is gone")));
        };
        let message = terminated(first).and_then(|state| state.message.clone()).unwrap_or_default();
        match plan.source {
            ResultSource::TerminationMessage => Ok(termination_message(message, plan.max)),
            ResultSource::Auto if !message.is_empty() => Ok(termination_message(message, plan.max)),
            _ => self.stdout(succeeded, plan.max, ended_now).await,
        }
    }

    /// What the first of these pods wrote whose node has it still.
    ///
    /// Our finalizer keeps a pod that is deleted, but not its log: the kubelet removes that as soon as the container has
    /// ended.
    async fn stdout(&self, mut pods: Vec<&Pod>, max: u64, ended_now: bool) -> Result<Result<Payload, Failure>, Error> {
        pods.sort_by_key(|pod| pod.metadata.deletion_timestamp.is_some());
        let mut lost = None;
        for pod in pods {
            match self.log(pod, container(pod), max, ended_now).await {
                Err(Error::NoLog(words)) if pod.metadata.deletion_timestamp.is_some() => {
                    let why = format!("the Job succeeded, but its pod was deleted, and its log with it ({words})");
                    lost = Some(Failure::of_result(FailureCode::ResultLost, why));
                }
                read => return Ok(sized(read?, max)),
            }
        }
        Ok(Err(lost.expect("there is a pod, and each that gave nothing has left its reason")))
    }

    /// What the last of the pods of a Job that failed told; best effort.
    pub async fn report(&self, pods: &[Pod]) -> PodReport {
        let Some(pod) = pods.iter().max_by_key(|pod| (phase(pod) == "Failed", pod.metadata.creation_timestamp.clone()))
        else {
            return PodReport::default();
        };
        let state = terminated(pod);
        let pod_reason = pod.status.as_ref().and_then(|status| status.reason.clone());
        PodReport {
            exit_code: state.map(|state| state.exit_code),
            reason: pod_reason.or_else(|| state.and_then(|state| state.reason.clone())),
            log_tail: self.tail(pod, container(pod)).await,
        }
    }
}

fn termination_message(message: String, max: u64) -> Result<Payload, Failure> {
    if message.len() >= TERMINATION_MESSAGE_LIMIT {
        let why = format!(
            "the termination message has {TERMINATION_MESSAGE_LIMIT} bytes, where the kubelet cuts it; a larger result goes to stdout"
        );
        return Err(Failure::of_result(FailureCode::ResultTooLarge, why));
    }
    sized(message.into_bytes(), max)
}

fn sized(bytes: Vec<u8>, max: u64) -> Result<Payload, Failure> {
    if bytes.len() as u64 > max {
        return Err(Failure::of_result(
            FailureCode::ResultTooLarge,
            format!("the result has more than the {max} bytes allowed (`result.max`)"),
        ));
    }
    Ok(Payload::new(bytes))
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The first container gives the result.
fn container(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.containers.first().map(|container| container.name.clone())
}

/// How the first container ended, or the init container that kept it from starting.
fn terminated(pod: &Pod) -> Option<&ContainerStateTerminated> {
    let status = pod.status.as_ref()?;
    let main = container(pod);
    let first = status.container_statuses.iter().flatten().filter(|status| Some(&status.name) == main.as_ref());
    let inits = status.init_container_statuses.iter().flatten();
    let mut ended = first.chain(inits).filter_map(|status| status.state.as_ref()?.terminated.as_ref());
    let failed_init = |state: &&ContainerStateTerminated| state.exit_code != 0;
    match ended.next() {
        Some(state) if state.exit_code == 0 => Some(ended.find(failed_init).unwrap_or(state)),
        other => other,
    }
}
