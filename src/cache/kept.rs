//! What is kept: one result as it is shown, and a look over all of them, for whoever asks what the cache is worth.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::envelope::{CLAIM, Header, claimed};
use super::{Entry, Store, result_key};
use crate::domain::event::JobInfo;
use crate::domain::key::RequestKey;

/// Results that are looked at with one call.
const AT_ONCE: usize = 500;
/// More are not looked at: it would take Redis seconds.
const MOST: usize = 200_000;
/// Under this stand values that do not say of which template they are.
const UNNAMED: &str = "";

/// What is known of a kept result.
#[derive(Debug, Serialize, JsonSchema)]
pub struct KeptResult {
    pub key: String,
    /// The template's name, or `inline`; a result that an earlier version has kept does not say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The Job that made it.
    pub job: JobInfo,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    /// It answers nobody any more, unless its Job fails the next time.
    pub expired: bool,
    pub age_seconds: u64,
    pub content_type: String,
    pub bytes: usize,
    pub sha256: String,
}

/// What is kept of one template.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Share {
    pub results: u64,
    /// Of the results themselves.
    pub bytes: u64,
    /// Of them those that answer nobody any more, unless their Job fails the next time.
    pub expired: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<Timestamp>,
}

/// All that is kept, by template.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub struct Shares {
    /// By the template's name, or `inline`; under the empty name what earlier versions have kept.
    pub templates: BTreeMap<String, Share>,
    /// Values that are no results.
    pub unreadable: u64,
    /// There are more than were looked at.
    pub truncated: bool,
}

impl KeptResult {
    pub fn of(entry: &Entry, now: Timestamp) -> Self {
        Self {
            key: entry.key.to_string(),
            template: entry.template.clone(),
            job: entry.job.clone(),
            created_at: entry.created_at,
            expires_at: entry.expires_at,
            expired: entry.expires_at <= now,
            age_seconds: entry.age(now).as_secs(),
            content_type: entry.payload.content_type.clone(),
            bytes: entry.payload.bytes.len(),
            sha256: entry.payload.sha256.clone(),
        }
    }
}

impl Share {
    fn add(&mut self, header: &Header, now: Timestamp) {
        self.results += 1;
        self.bytes += header.bytes as u64;
        self.expired += u64::from(header.expires_at <= now);
        self.oldest = Some(self.oldest.map_or(header.created_at, |oldest| oldest.min(header.created_at)));
        self.newest = self.newest.max(Some(header.created_at));
    }
}

/// A part of what is kept, and where to go on; 0: nowhere.
struct Part {
    found: Vec<(RequestKey, Option<Header>)>,
    cursor: u64,
}

impl Store {
    /// Counts what is kept, of one template or of all.
    pub async fn shares(&self, template: Option<&str>) -> Result<Shares, String> {
        let (now, mut shares, mut cursor, mut looked) = (Timestamp::now(), Shares::default(), 0, 0);
        loop {
            let part = self.part(cursor).await?;
            looked += part.found.len();
            for (_, header) in part.found {
                let Some(header) = header else {
                    shares.unreadable += 1;
                    continue;
                };
                let name = header.template.as_deref().unwrap_or(UNNAMED);
                if template.is_none_or(|template| template == name) {
                    shares.templates.entry(name.to_owned()).or_default().add(&header, now);
                }
            }
            cursor = part.cursor;
            if cursor == 0 || looked >= MOST {
                return Ok(Shares { truncated: cursor != 0, ..shares });
            }
        }
    }

    /// Removes all that is kept of a template; how many there were.
    pub async fn forget_template(&self, template: &str) -> Result<u64, String> {
        let (mut removed, mut cursor) = (0, 0);
        loop {
            let part = self.part(cursor).await?;
            let is_of_it =
                |header: Option<Header>| header.is_some_and(|header| header.template.as_deref() == Some(template));
            let keys: Vec<_> =
                part.found.into_iter().filter_map(|(key, header)| is_of_it(header).then_some(key)).collect();
            if !keys.is_empty() {
                let names: Vec<_> = keys.iter().map(result_key).collect();
                removed += self.asked::<u64>(redis::cmd("UNLINK").arg(names)).await?;
                keys.iter().for_each(|key| self.hot.drop_value(key));
            }
            cursor = part.cursor;
            if cursor == 0 {
                return Ok(removed);
            }
        }
    }

    /// Some of what is kept, each with what it says of itself.
    async fn part(&self, cursor: u64) -> Result<Part, String> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg("jobquay:result:*").arg("COUNT").arg(AT_ONCE);
        let (cursor, names): (u64, Vec<String>) = self.asked(&scan).await?;
        let keys: Vec<_> = names.iter().filter_map(|name| RequestKey::from_hex(name.rsplit(':').next()?)).collect();
        if keys.is_empty() {
            return Ok(Part { found: Vec::new(), cursor });
        }
        let mut pipeline = redis::pipe();
        for key in &keys {
            pipeline.cmd("GETRANGE").arg(result_key(key)).arg(0).arg(CLAIM - 1);
        }
        let mut connection = self.connection.get();
        let starts = pipeline.query_async::<Vec<Vec<u8>>>(&mut connection);
        let starts = self.bounded(self.write_timeout, starts).await?;
        // One that has ended meanwhile is empty.
        let found = keys.into_iter().zip(starts).filter(|(_, start)| !start.is_empty());
        Ok(Part { found: found.map(|(key, start)| (key, claimed(&start))).collect(), cursor })
    }

    async fn asked<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, String> {
        let mut connection = self.connection.get();
        self.bounded(self.write_timeout, command.query_async::<T>(&mut connection)).await
    }
}
