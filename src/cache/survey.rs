//! What Redis says of itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Store;

/// As far as it matters to a cache of results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    pub version: String,
    pub is_replica: bool,
    pub used_bytes: u64,
    /// 0 where there is no limit.
    pub max_bytes: u64,
    /// What goes first when it is full.
    pub policy: String,
    /// Between its clock and ours, whichever is ahead.
    pub clock_off_by: Duration,
}

impl Store {
    /// Asks Redis what it is and how it fares. Fails also where this user may not ask.
    pub async fn survey(&self) -> Result<Survey, String> {
        let mut connection = self.connection.get();
        let mut pipeline = redis::pipe();
        pipeline.cmd("INFO").cmd("TIME");
        let call = pipeline.query_async::<(String, (String, String))>(&mut connection);
        let (info, (seconds, microseconds)) = self.bounded(self.write_timeout, call).await?;
        let number = |text: &str| text.parse().unwrap_or_default();
        let theirs = Duration::from_secs(number(&seconds)) + Duration::from_micros(number(&microseconds));
        // A clock before 1970 is far enough off to be told so.
        let ours = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Survey { clock_off_by: theirs.abs_diff(ours), ..Survey::of(&info) })
    }
}

impl Survey {
    /// From lines of the form `name:value`; what is not there is empty or nothing.
    fn of(info: &str) -> Self {
        let field = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.unwrap_or_default().trim_end()
        };
        Self {
            version: field("redis_version").to_owned(),
            is_replica: field("role") == "slave",
            used_bytes: field("used_memory").parse().unwrap_or_default(),
            max_bytes: field("maxmemory").parse().unwrap_or_default(),
            policy: field("maxmemory_policy").to_owned(),
            clock_off_by: Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_info_are_read_by_their_whole_names() {
        let info = "# Server\r\nredis_version:7.0.15\r\n# Memory\r\nused_memory_rss:9\r\nused_memory:1048576\r\n\
                    maxmemory_human:256M\r\nmaxmemory:268435456\r\nmaxmemory_policy:allkeys-lru\r\nrole:slave\r\n";
        let survey = Survey::of(info);
        assert_eq!(
            survey,
            Survey {
                version: "7.0.15".into(),
                is_replica: true,
                used_bytes: 1 << 20,
                max_bytes: 256 << 20,
                policy: "allkeys-lru".into(),
                clock_off_by: Duration::ZERO,
            }
        );
    }
}
