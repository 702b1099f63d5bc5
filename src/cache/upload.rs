//! Results that workers put into Redis themselves.
//!
//! Unlike what is cached they are the only copy, so a Redis that is away is no miss here but an error.

use std::time::Duration;

use super::Store;

/// Nothing that was read stays for longer.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);
/// For a result of many megabytes.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What stands under the key of an upload.
#[derive(Debug, PartialEq, Eq)]
pub enum Upload {
    Bytes(Vec<u8>),
    /// More bytes than were allowed, and not read.
    TooLarge(u64),
    Missing,
}

impl Store {
    /// Reads an upload of at most `max` bytes; fails, in words, while Redis does not give it.
    pub async fn upload(&self, key: &str, max: u64) -> Result<Upload, String> {
        let mut connection = self.connection.get();
        let mut look = redis::pipe();
        look.cmd("EXPIRE").arg(key).arg(KEPT_FOR.as_secs()).cmd("STRLEN").arg(key);
        let (exists, length): (bool, u64) = self.bounded(self.write_timeout, look.query_async(&mut connection)).await?;
        if !exists {
            return Ok(Upload::Missing);
        }
        if length > max {
            return Ok(Upload::TooLarge(length));
        }
        let mut get = redis::cmd("GET");
        let get = get.arg(key).query_async::<Option<Vec<u8>>>(&mut connection);
        Ok(match self.bounded(READ_TIMEOUT, get).await? {
            None => Upload::Missing,
            Some(bytes) if bytes.len() as u64 > max => Upload::TooLarge(bytes.len() as u64),
            Some(bytes) => Upload::Bytes(bytes),
        })
    }

    /// Removes an upload. Best effort: what stays expires.
    pub async fn forget_upload(&self, key: &str) {
        let mut connection = self.connection.get();
        // What went wrong is in the log and in the health of the cache.
        let _ = self.bounded(self.write_timeout, redis::cmd("DEL").arg(key).query_async::<()>(&mut connection)).await;
    }
}
