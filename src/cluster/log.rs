//! What a container has written, read through the API server from its node.

use std::time::Duration;

use futures_util::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;

use super::{Error, Jobs, call};
use crate::domain::log::StampedLog;
use crate::domain::outcome::{LOG_TAIL_LINES, log_tail};

/// Of a failed pod's last lines so much is read; the tail that is told is cut from it.
const LOG_TAIL_READ: i64 = 256 << 10;
/// A failure is told with or without its log.
const LOG_TAIL_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at a log that may not be whole: most Jobs have no verdict before that.
const LATE: Duration = Duration::from_millis(500);
/// The most of these looks.
const LOOKS: u32 = 10;
const PIECE: usize = 16 << 10;

impl Jobs {
    /// All that a container wrote, or more than `max` bytes of it.
    ///
    /// Its runtime says that it has ended before the last lines are in its log: on a node that is short of processor they come
    /// a moment later. So where it has `ended_now`, or wrote nothing, a log counts when it was found the same twice.
    pub(super) async fn log(
        &self,
        pod: &Pod,
        container: Option<String>,
        max: u64,
        ended_now: bool,
    ) -> Result<Vec<u8>, Error> {
        // Asked for without a limit: the kubelet's counts the timestamps too.
        let params = LogParams { container, ..LogParams::default() };
        let limit = self.shared.call_timeout.max(Duration::from_secs(30));
        let mut log = self.read_log(pod, params.clone(), max, limit).await?;
        let is_enough = |log: &StampedLog| log.written_bytes() as u64 > max;
        let mut is_whole = is_enough(&log) || log.written_bytes() > 0 && !ended_now;
        for _ in 0..LOOKS {
            if is_whole {
                break;
            }
            tokio::time::sleep(LATE).await;
            let again = self.read_log(pod, params.clone(), max, limit).await?;
            if again.is_none() && log.written_bytes() > 0 {
                // It went with its pod, and nobody will know more of it.
                break;
            }
            is_whole = is_enough(&again) || again.written_bytes() == log.written_bytes();
            log = again;
        }
        match is_enough(&log) {
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
