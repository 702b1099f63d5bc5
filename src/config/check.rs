//! Settings that are fine alone and wrong together, or out of range.

use std::time::Duration;

use super::Config;
use crate::domain::names::is_label;
use crate::domain::template::check_limit;

/// A key for HMAC-SHA256 is as long as what it makes, 32 bytes, or guessing the key is less work.
const MIN_HMAC_KEY: usize = 32;

/// Every member writes this often, and every other reads it.
const MIN_RENEW: Duration = Duration::from_millis(100);

/// The key, and a sentence.
type Wrong = (&'static str, String);

impl Config {
    pub(super) fn check(&self) -> Result<(), Wrong> {
        self.check_broker()?;
        self.check_cache()?;
        self.check_members()?;
        self.check_http()?;
        self.check_work()
    }

    fn check_http(&self) -> Result<(), Wrong> {
        let is_digest = |token: &&String| token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit());
        for (setting, tokens) in [("http.viewers", &self.http.viewers), ("http.operators", &self.http.operators)] {
            if !tokens.iter().all(|token| is_digest(&token)) {
                // It may be the token itself.
                return Err((setting, "holds something else than 64 hex digits, the SHA-256 of a token".into()));
            }
        }
        let base = &self.http.base_path;
        let is_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.');
        if !base.is_empty() && (!base.starts_with('/') || base.ends_with('/') || !base.chars().all(is_path)) {
            return Err((
                "http.base_path",
                format!("`{base}` does not begin with `/`, ends with it, or is no plain path"),
            ));
        }
        Ok(())
    }

    fn check_broker(&self) -> Result<(), Wrong> {
        let url = self.amqp.url.expose();
        if !["amqp", "amqps"].contains(&url.scheme()) {
            return Err(("amqp.url", format!("the scheme `{}` is not amqp or amqps", url.scheme())));
        }
        // The client reads `amqp://[::1]` as host "localhost" and would talk to another broker.
        if matches!(url.host(), Some(url::Host::Ipv6(_))) {
            return Err(("amqp.url", "IPv6 literals are not supported; use a host name".into()));
        }
        if url.path() == "/" {
            return Err((
                "amqp.url",
                "the vhost \"\" is meant by a bare `/`; write `/%2f` for the default vhost".into(),
            ));
        }
        if !(1..=2000).contains(&self.amqp.prefetch) {
            return Err(("amqp.prefetch", format!("{} is not within 1 to 2000", self.amqp.prefetch)));
        }
        Ok(())
    }

    fn check_cache(&self) -> Result<(), Wrong> {
        if !["redis", "rediss", "redis+unix", "unix"].contains(&self.cache.url.expose().scheme()) {
            return Err(("cache.url", "must be redis:// or rediss://".into()));
        }
        for (name, key) in
            [("cache.hmac_key", &self.cache.hmac_key), ("cache.hmac_previous", &self.cache.hmac_previous)]
        {
            if !key.is_empty() && key.expose().len() < MIN_HMAC_KEY {
                let message =
                    format!("has fewer than {MIN_HMAC_KEY} characters; `openssl rand -hex 32` makes a good one");
                return Err((name, message));
            }
        }
        if self.cache.hmac_key.is_empty() && !self.cache.hmac_previous.is_empty() {
            return Err(("cache.hmac_previous", "verifies nothing without `cache.hmac_key`".into()));
        }
        Ok(())
    }

    fn check_members(&self) -> Result<(), Wrong> {
        let (lease, renew) = (self.members.lease, self.members.renew);
        if renew < MIN_RENEW {
            return Err(("members.renew", format!("{renew:?} is shorter than {MIN_RENEW:?}")));
        }
        if lease < renew * 2 {
            let message = format!("{lease:?} is not twice `members.renew` ({renew:?}): one lost renewal would end it");
            return Err(("members.lease", message));
        }
        Ok(())
    }

    fn check_work(&self) -> Result<(), Wrong> {
        if let Some(lane) = self.lanes.keys().find(|lane| !is_label(lane)) {
            return Err(("lanes", format!("`{lane}` must be lower-case letters, digits and `-`, at most 63")));
        }
        if let Some(name) = self.kubernetes.namespaces.iter().find(|name| !is_label(name)) {
            return Err(("kubernetes.namespaces", format!("`{name}` is not the name of a namespace")));
        }
        let limits = &self.limits;
        for (name, limit) in
            [("limits.start", limits.start), ("limits.image_pull", limits.image_pull), ("limits.run", limits.run)]
        {
            check_limit(limit).map_err(|why| (name, why))?;
        }
        if self.kubernetes.concurrency == 0 {
            return Err(("kubernetes.concurrency", "must be at least 1".into()));
        }
        if self.inline.run_as_user < 1 {
            return Err(("inline.run_as_user", "must be a user other than root, at least 1".into()));
        }
        if self
            .replies
            .default
            .as_deref()
            .is_some_and(|queue| queue.starts_with("jobquay.") && queue != "jobquay.replies")
        {
            return Err(("replies.default", "cannot be one of jobquay's own queues".into()));
        }
        Ok(())
    }
}
