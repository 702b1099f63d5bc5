//! What a pod wrote: its result, or why it failed.

use std::time::Duration;

use futures_util::AsyncReadExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::api::LogParams;

use super::{Error, Jobs};
use crate::domain::outcome::{Failure, FailureCode, LOG_TAIL_LINES, Payload, PodReport, log_tail};
use crate::domain::template::{ResultPlan, ResultSource};

/// The kubelet cuts a termination message here, so one of this length may have been longer.
const TERMINATION_MESSAGE_LIMIT: usize = 4096;
/// Of a failed pod's last lines so much is read; the tail that is told is cut from it.
const LOG_TAIL_READ: i64 = 256 << 10;
/// A failure is told with or without its log.
const LOG_TAIL_TIMEOUT: Duration = Duration::from_secs(5);

impl Jobs {
    /// Reads the result of a Job that succeeded. The inner error is final: a result that is not to be
    /// had, or not in its allowed size.
    pub async fn result(&self, job: &Job, plan: ResultPlan) -> Result<Result<Payload, Failure>, Error> {
        if plan.source == ResultSource::None {
            return Ok(Ok(Payload::none()));
        }
        let pods = self.pods(job.metadata.uid.as_deref().unwrap_or_default()).await?;
        let Some(pod) = pods.iter().find(|pod| phase(pod) == "Succeeded") else {
            return Ok(Err(Failure::of_result(FailureCode::ResultLost, "the Job succeeded, but its pod is gone")));
        };
        let message = terminated(pod).and_then(|state| state.message.clone()).unwrap_or_default();
        match plan.source {
            ResultSource::TerminationMessage => Ok(termination_message(message, plan.max)),
            ResultSource::Auto if !message.is_empty() => Ok(termination_message(message, plan.max)),
            _ => self.stdout(pod, plan.max).await,
        }
    }

    async fn stdout(&self, pod: &Pod, max: u64) -> Result<Result<Payload, Failure>, Error> {
        // One byte more than allowed tells "too large" from "just fits".
        let limit = i64::try_from(max).unwrap_or(i64::MAX).saturating_add(1);
        let log = LogParams { container: container(pod), limit_bytes: Some(limit), ..LogParams::default() };
        let bytes = self.log(pod, &log, self.call_timeout.max(Duration::from_secs(30))).await?;
        Ok(sized(bytes, max))
    }

    /// What the last pod of a Job that failed told; best effort.
    pub async fn report(&self, job: &Job) -> PodReport {
        let pods = self.pods(job.metadata.uid.as_deref().unwrap_or_default()).await.unwrap_or_default();
        let Some(pod) = pods.iter().max_by_key(|pod| (phase(pod) == "Failed", pod.metadata.creation_timestamp.clone()))
        else {
            return PodReport::default();
        };
        let state = terminated(pod);
        let pod_reason = pod.status.as_ref().and_then(|status| status.reason.clone());
        let log = LogParams {
            container: container(pod),
            tail_lines: Some(LOG_TAIL_LINES as i64),
            limit_bytes: Some(LOG_TAIL_READ),
            ..LogParams::default()
        };
        let text = self.log(pod, &log, LOG_TAIL_TIMEOUT).await.ok().map(|bytes| log_tail(&bytes));
        PodReport {
            exit_code: state.map(|state| state.exit_code),
            reason: pod_reason.or_else(|| state.and_then(|state| state.reason.clone())),
            log_tail: text.filter(|text| !text.is_empty()),
        }
    }

    async fn log(&self, pod: &Pod, params: &LogParams, limit: Duration) -> Result<Vec<u8>, Error> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let api = self.pod_reader();
        let read = async {
            let mut bytes = Vec::new();
            let stream = api.log_stream(&name, params).await?;
            let most = params.limit_bytes.unwrap_or(LOG_TAIL_READ).unsigned_abs();
            stream.take(most).read_to_end(&mut bytes).await.map_err(kube::Error::ReadEvents)?;
            Ok(bytes)
        };
        super::call("read a log", limit, read).await
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
