//! Requests that the API server has carried out, as its own metrics count them.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::Client;

/// Counts by verb and resource, as in `POST jobs`.
#[derive(Debug, Clone, Default)]
pub(crate) struct ApiRequests(BTreeMap<String, u64>);

impl ApiRequests {
    pub(crate) async fn now(client: &Client) -> Result<Self> {
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let text = client.request_text(request).await?;
        let mut counts = BTreeMap::new();
        for line in text.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let label = |name: &str| line.split_once(&format!("{name}=\""))?.1.split('"').next();
            let (Some(verb), Some(resource)) = (label("verb"), label("resource")) else { continue };
            let subresource = label("subresource").filter(|name| !name.is_empty());
            let of = format!("{verb} {resource}{}", subresource.map(|name| format!("/{name}")).unwrap_or_default());
            let count: f64 = line.rsplit_once(' ').and_then(|(_, count)| count.parse().ok()).unwrap_or(0.0);
            *counts.entry(of).or_default() += count as u64;
        }
        Ok(Self(counts))
    }

    /// What came since `before`.
    pub(crate) fn since(&self, before: &Self) -> BTreeMap<String, u64> {
        let of_before = |of: &String| before.0.get(of).copied().unwrap_or(0);
        let grown = self.0.iter().map(|(of, count)| (of.clone(), count - of_before(of)));
        grown.filter(|(_, count)| *count > 0).collect()
    }
}
