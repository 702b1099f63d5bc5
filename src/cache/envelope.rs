//! The value in Redis: a version, a header that says what it is, and the bytes as they were written.
//!
//! ```text
//! jobquay1
//! hmac-sha256:<64 hex digits>          only with a key; over the value as it is without this line
//! {"key": "sha256:…", "bytes": …, …}
//! <bytes>
//! ```
//!
//! Anyone who can write to Redis could write a value; one that does not verify is no result.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::seal::{self, Seal};
use crate::domain::event::JobInfo;
use crate::domain::key::RequestKey;
use crate::domain::outcome::{Payload, digest};

const VERSION: &[u8] = b"jobquay1\n";
/// A header has a handful of short fields; more is not ours.
const MAX_HEADER: usize = 4096;

/// A result and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: RequestKey,
    /// The template's name, or `inline`; values of earlier versions do not say it.
    pub template: Option<String>,
    pub job: JobInfo,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub payload: Payload,
}

impl Entry {
    /// Seconds since the result was made.
    pub fn age(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.created_at)).unwrap_or_default()
    }

    /// Whether it stays where `other` is offered: it has not ended, or is newer.
    pub(super) fn stands_beside(&self, other: &Self, now: Timestamp) -> bool {
        self.expires_at > now || self.created_at > other.created_at
    }

    /// Whether it may answer instead of a failure at `at`: until `stale` after its end.
    pub fn stands_in(&self, at: Timestamp, stale: Duration) -> bool {
        at < self.expires_at.checked_add(stale).unwrap_or(Timestamp::MAX)
    }
}

/// Why a value is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("it is larger than `cache.max_value`")]
    Size,
    #[error("it has another version")]
    Version,
    #[error("it has no signature that verifies")]
    Signature,
    #[error("its header cannot be read")]
    Header,
    #[error("it belongs to another key")]
    Key,
    #[error("its bytes are not those that were written")]
    Bytes,
}

impl Invalid {
    /// A metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Version => "version",
            Self::Signature => "signature",
            Self::Header => "header",
            Self::Key => "key",
            Self::Bytes => "bytes",
        }
    }
}

/// What a value says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) template: Option<String>,
    job: JobInfo,
    pub(super) created_at: Timestamp,
    pub(super) expires_at: Timestamp,
    content_type: String,
    pub(super) bytes: usize,
    sha256: String,
}

pub fn encode(entry: &Entry, seal: &Seal) -> Vec<u8> {
    let header = Header {
        key: entry.key.to_string(),
        template: entry.template.clone(),
        job: entry.job.clone(),
        created_at: entry.created_at,
        expires_at: entry.expires_at,
        content_type: entry.payload.content_type.clone(),
        bytes: entry.payload.bytes.len(),
        sha256: entry.payload.sha256.clone(),
    };
    let header = serde_json::to_vec(&header).expect("texts, times and a number have a JSON form");
    let bytes = &entry.payload.bytes;
    let signature = seal.line(&[VERSION, &header, b"\n", bytes]).unwrap_or_default();
    [VERSION, signature.as_bytes(), &header, b"\n", bytes].concat()
}

/// Reads a value that was found under `key`. Where `seal` has no key a signature says nothing.
pub fn decode(value: &[u8], key: &RequestKey, seal: &Seal) -> Result<Entry, Invalid> {
    let rest = value.strip_prefix(VERSION).ok_or(Invalid::Version)?;
    let (signature, rest) = seal::split(rest).ok_or(Invalid::Signature)?;
    if !seal.accepts(&[VERSION, rest], signature) {
        return Err(Invalid::Signature);
    }
    let (header, bytes) = read_header(rest)?;
    if header.key != key.to_string() {
        return Err(Invalid::Key);
    }
    if header.bytes != bytes.len() || header.sha256 != digest(bytes) {
        return Err(Invalid::Bytes);
    }
    Ok(Entry {
        key: *key,
        template: header.template,
        job: header.job,
        created_at: header.created_at,
        expires_at: header.expires_at,
        payload: Payload::of(header.content_type, bytes.to_vec(), header.sha256),
    })
}

/// What the value of this entry begins with, up to the end of its header. Another value that begins so has the same bytes
/// behind it, if it verifies: its header names their digest.
pub(super) fn head<'a>(value: &'a [u8], entry: &Entry) -> &'a [u8] {
    &value[..value.len().saturating_sub(entry.payload.bytes.len())]
}

fn read_header(rest: &[u8]) -> Result<(Header, &[u8]), Invalid> {
    let end = rest.iter().take(MAX_HEADER).position(|byte| *byte == b'\n').ok_or(Invalid::Header)?;
    let header = serde_json::from_slice(&rest[..end]).map_err(|_| Invalid::Header)?;
    Ok((header, &rest[end + 1..]))
}

/// What a value says of itself, out of its first bytes; nobody has looked whether it is true.
pub(super) fn claimed(start: &[u8]) -> Option<Header> {
    let (_, rest) = seal::split(start.strip_prefix(VERSION)?)?;
    read_header(rest).ok().map(|(header, _)| header)
}

/// So many bytes of a value hold all that it says of itself.
pub(super) const CLAIM: usize = MAX_HEADER + 256;

#[cfg(test)]
mod tests {
    use super::super::seal::{DIGITS, PREFIX};
    use super::*;
    use crate::config::SecretText;

    fn entry() -> Entry {
        Entry {
            key: RequestKey::from_hex(&"ab".repeat(32)).unwrap(),
            template: None,
            job: JobInfo { namespace: "work".into(), name: "jq-t-x".into(), uid: "u".into(), attempts: 1 },
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            payload: Payload::new(b"line\nline\n".to_vec()),
        }
    }

    fn seal(key: &str, previous: &str) -> Seal {
        let secret = |text: &str| serde_json::from_value::<SecretText>(text.into()).unwrap();
        Seal::new(&secret(key), &secret(previous))
    }

    fn read(value: &[u8]) -> Result<Entry, Invalid> {
        decode(value, &entry().key, &Seal::default())
    }

    #[test]
    fn a_value_reads_back_and_its_form_is_pinned() {
        let value = encode(&entry(), &Seal::default());
        let pinned = format!(
            "jobquay1\n{{\"key\":\"sha256:{}\",\"job\":{{\"namespace\":\"work\",\"name\":\"jq-t-x\",\"uid\":\"u\",\"attempts\":1}},\
             \"created_at\":\"1970-01-01T00:00:00Z\",\"expires_at\":\"1970-01-01T00:00:00Z\",\"content_type\":\"text/plain; charset=utf-8\",\
             \"bytes\":10,\"sha256\":\"{}\"}}\nline\nline\n",
            "ab".repeat(32),
            entry().payload.sha256
        );
        assert_eq!(String::from_utf8(value.clone()).unwrap(), pinned);
        assert_eq!(read(&value), Ok(entry()));
        // Computed outside, with Python's hmac over the pinned value and the key "first".
        let signature = "47f60341f17e1b6a096b79a7c19a9ded16f532573637781c5eea63bd4ab949f2";
        let signed = pinned.replacen("jobquay1\n", &format!("jobquay1\nhmac-sha256:{signature}\n"), 1);
        assert_eq!(String::from_utf8(encode(&entry(), &seal("first", "second"))).unwrap(), signed);
    }

    #[test]
    fn a_value_says_of_which_template_it_is_where_its_writer_did() {
        let named = Entry { template: Some("thumbnail".into()), ..entry() };
        let value = encode(&named, &seal("first", ""));
        assert_eq!(decode(&value, &named.key, &seal("first", "")), Ok(named));
        assert_eq!(claimed(&value[..value.len() - 4]).and_then(|header| header.template).as_deref(), Some("thumbnail"));
        assert_eq!(
            claimed(&encode(&entry(), &Seal::default())).map(|header| (header.template, header.bytes)),
            Some((None, 10))
        );
        assert!(claimed(b"jobquay1\nnothing").is_none() && claimed(b"jobquay2\n{}\n").is_none());
    }

    #[test]
    fn a_signature_counts_under_either_key_and_says_nothing_without_one() {
        let (unsigned, first) = (encode(&entry(), &Seal::default()), encode(&entry(), &seal("first", "")));
        let read = |value: &[u8], seal: &Seal| decode(value, &entry().key, seal);
        for accepts in [seal("first", ""), seal("second", "first"), Seal::default()] {
            assert_eq!(read(&first, &accepts), Ok(entry()), "{accepts:?}");
        }
        for refused in [&first, &unsigned] {
            assert_eq!(read(refused, &seal("second", "third")), Err(Invalid::Signature));
        }
        let other = RequestKey::from_hex(&"cd".repeat(32)).unwrap();
        assert_eq!(decode(&first, &other, &seal("first", "")), Err(Invalid::Key), "no value is good elsewhere");
        for position in VERSION.len()..first.len() {
            for change in [1, 0x20] {
                let mut poisoned = first.clone();
                poisoned[position] ^= change;
                // A digit in upper case is the same digit.
                if !poisoned.eq_ignore_ascii_case(&first) || position > VERSION.len() + PREFIX.len() + DIGITS {
                    assert_eq!(read(&poisoned, &seal("first", "")), Err(Invalid::Signature), "byte {position}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_verify_is_no_result() {
        let value = encode(&entry(), &Seal::default());
        let other = RequestKey::from_hex(&"cd".repeat(32)).unwrap();
        assert_eq!(decode(&value, &other, &Seal::default()), Err(Invalid::Key));
        assert_eq!(read(&value[..value.len() - 1]), Err(Invalid::Bytes));
        assert_eq!(read(b""), Err(Invalid::Version));
        assert_eq!(read(b"jobquay2\n{}\n"), Err(Invalid::Version));
        assert_eq!(read(b"jobquay1\n{}\n"), Err(Invalid::Header));
        assert_eq!(read(&[VERSION, &[b'x'; 10_000]].concat()), Err(Invalid::Header));
        assert_eq!(read(&[VERSION, PREFIX.as_bytes(), &[b'0'; 10_000]].concat()), Err(Invalid::Signature));
        for position in 0..value.len() {
            let mut poisoned = value.clone();
            poisoned[position] ^= 1;
            if let Ok(read) = read(&poisoned) {
                assert_eq!(read.payload.bytes, entry().payload.bytes, "byte {position}");
            }
        }
    }
}
