//! A log as somebody reads it who wants to see what a Job does.

use std::io;

use futures_util::{AsyncReadExt, Stream, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};

use super::{Error, Jobs, call};

const PIECE: usize = 8 << 10;

impl Jobs {
    /// The youngest pod of a Job, whose name a later Job may have taken.
    pub async fn last_pod(&self, job: &str) -> Result<Option<Pod>, Error> {
        let theirs = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        let pods = call("list pods", self.shared.call_timeout, self.pod_reader().list(&theirs)).await?;
        Ok(pods.items.into_iter().max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0)))
    }

    /// What the first container of a pod has written, and with `follow` what it writes until it ends.
    pub async fn live_log(
        &self,
        pod: &Pod,
        follow: bool,
        tail: Option<u32>,
    ) -> Result<impl Stream<Item = io::Result<Vec<u8>>> + Send + use<>, Error> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let container = pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|first| first.name.clone());
        let params = LogParams { container, follow, tail_lines: tail.map(i64::from), ..LogParams::default() };
        let api = self.pod_reader();
        let log = call("read a log", self.shared.call_timeout, api.log_stream(&name, &params)).await?;
        Ok(stream::unfold(Box::pin(log), |mut log| async move {
            let mut piece = vec![0; PIECE];
            match log.read(&mut piece).await {
                Ok(0) => None,
                Ok(count) => {
                    piece.truncate(count);
                    Some((Ok(piece), log))
                }
                Err(error) => Some((Err(error), log)),
            }
        }))
    }
}
