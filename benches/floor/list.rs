//! A bare LIST of all Jobs, read page by page. A process of its own.

use std::time::Instant;

use anyhow::Result;
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::ListParams;

use crate::cluster::{self, NAMESPACE};
use crate::stack::Stack;

/// As many as a watch asks for at a time.
const PAGE: u32 = 500;

/// Prints how many there are, and the milliseconds that it took with the connection in it.
pub(crate) async fn run() -> Result<()> {
    let begun = Instant::now();
    let jobs: Api<Job> = Api::namespaced(cluster::client(&Stack::find()?).await?, NAMESPACE);
    let mut params = ListParams::default().limit(PAGE);
    let mut count = 0;
    loop {
        let page = jobs.list(&params).await?;
        count += page.items.len();
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    println!("{count} {}", begun.elapsed().as_secs_f64() * 1e3);
    Ok(())
}
