//! What a container has written, read through the API server from its node.

use std::time::Duration;

use futures_util::AsyncReadExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;

use super::{Error, Jobs, call};
use crate::domain::log::StampedLog;
use crate::domain::outcome::{LOG_TAIL_LINES, log_tail};

/// Of a failed pod's last lines so much is read; the tail that is told is cut from it.
const LOG_TAIL_READ: i64 = 256 << 10;
/// A failure is told with or without its log.
const LOG_TAIL_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at a log that may not be whole.
const LATE: Duration = Duration::from_millis(500);
/// A container runtime says that a container has ended before it has written down the last lines of it; on a node that is
/// short of processor they come a moment later. For so long after the end a log counts when it was found the same twice.
const FRESH: SignedDuration = SignedDuration::from_secs(5);
const PIECE: usize = 16 << 10;

/// Whether a container of it has ended a moment ago, or nobody says when.
fn is_fresh(pod: &Pod) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ended = statuses.filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    ended.map(|time| time.0).max().is_none_or(|last| Timestamp::now().duration_since(last) < FRESH)
}

impl Jobs {
    /// All that a container wrote, or more than `max` bytes of it.
    pub(super) async fn log(&self, pod: &Pod, container: Option<String>, max: u64) -> Result<Vec<u8>, Error> {
        // Asked for without a limit: the kubelet's counts the timestamps too.
        let params = LogParams { container, ..LogParams::default() };
        let limit = self.shared.call_timeout.max(Duration::from_secs(30));
        let mut log = self.read_log(pod, params.clone(), max, limit).await?;
        let mut is_whole = log.written_bytes() > 0 && !is_fresh(pod);
        while !is_whole {
            tokio::time::sleep(LATE).await;
            let again = self.read_log(pod, params.clone(), max, limit).await?;
            if again.is_none() && log.written_bytes() > 0 {
                // It went with its pod, and nobody will know more of it.
                break;
            }
            is_whole = again.written_bytes() == log.written_bytes() || !is_fresh(pod);
            log = again;
        }
        match log.written_bytes() as u64 > max {
            true => Ok(log.into_written()),
            false => log.finish().map_err(Error::NoLog),
        }
    }

    /// The last lines of it, if there are any to be had.
    pub(super) async fn tail(&self, pod: &Pod, container: Option<String>) -> Option<String> {
        let params = LogParams {
            container,
            tail_lines: Some(LOG_TAIL_LINES as i64),
            limit_bytes: Some(LOG_TAIL_READ),
            ..LogParams::default()
        };
        let log = self.read_log(pod, params, LOG_TAIL_READ.unsigned_abs(), LOG_TAIL_TIMEOUT).await.ok()?;
        Some(log_tail(&log.into_written())).filter(|text| !text.is_empty())
    }

    async fn read_log(&self, pod: &Pod, params: LogParams, max: u64, limit: Duration) -> Result<StampedLog, Error> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let api = self.pod_reader();
        let params = LogParams { timestamps: true, ..params };
        let read = async {
            let mut stream = std::pin::pin!(api.log_stream(&name, &params).await?);
            let mut log = StampedLog::default();
            let mut piece = vec![0; PIECE];
            while log.written_bytes() as u64 <= max && !log.is_spoilt() {
                match stream.read(&mut piece).await.map_err(kube::Error::ReadEvents)? {
                    0 => break,
                    count => log.push(&piece[..count]),
                }
            }
            Ok(log)
        };
        call("read a log", limit, read).await
    }
}
