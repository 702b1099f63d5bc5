//! The value in Redis: a version, a header that says what it is, and the bytes as they were written.
//!
//! Anyone who can write to Redis could write a value; one that does not verify is no result.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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
    pub job: JobInfo,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub payload: Payload,
}

/// Why a value is no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("it has another version")]
    Version,
    #[error("its header cannot be read")]
    Header,
    #[error("it belongs to another key")]
    Key,
    #[error("its bytes are not those that were written")]
    Bytes,
}

#[derive(Serialize, Deserialize)]
struct Header {
    key: String,
    job: JobInfo,
    created_at: Timestamp,
    expires_at: Timestamp,
    content_type: String,
    bytes: usize,
    sha256: String,
}

pub fn encode(entry: &Entry) -> Vec<u8> {
    let header = Header {
        key: entry.key.to_string(),
        job: entry.job.clone(),
        created_at: entry.created_at,
        expires_at: entry.expires_at,
        content_type: entry.payload.content_type.clone(),
        bytes: entry.payload.bytes.len(),
        sha256: entry.payload.sha256.clone(),
    };
    let header = serde_json::to_vec(&header).expect("texts, times and a number have a JSON form");
    [VERSION, &header, b"\n", &entry.payload.bytes].concat()
}

/// Reads a value that was found under `key`.
pub fn decode(value: &[u8], key: &RequestKey) -> Result<Entry, Invalid> {
    let rest = value.strip_prefix(VERSION).ok_or(Invalid::Version)?;
    let end = rest.iter().take(MAX_HEADER).position(|byte| *byte == b'\n').ok_or(Invalid::Header)?;
    let header: Header = serde_json::from_slice(&rest[..end]).map_err(|_| Invalid::Header)?;
    let bytes = &rest[end + 1..];
    if header.key != key.to_string() {
        return Err(Invalid::Key);
    }
    if header.bytes != bytes.len() || header.sha256 != digest(bytes) {
        return Err(Invalid::Bytes);
    }
    Ok(Entry {
        key: *key,
        job: header.job,
        created_at: header.created_at,
        expires_at: header.expires_at,
        payload: Payload { content_type: header.content_type, bytes: bytes.to_vec(), sha256: header.sha256 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            key: RequestKey::from_hex(&"ab".repeat(32)).unwrap(),
            job: JobInfo { namespace: "work".into(), name: "jq-t-x".into(), uid: "u".into(), attempts: 1 },
            created_at: Timestamp::UNIX_EPOCH,
            expires_at: Timestamp::UNIX_EPOCH,
            payload: Payload::new(b"line\nline\n".to_vec()),
        }
    }

    #[test]
    fn a_value_reads_back_and_its_form_is_pinned() {
        let value = encode(&entry());
        let pinned = format!(
            "jobquay1\n{{\"key\":\"sha256:{}\",\"job\":{{\"namespace\":\"work\",\"name\":\"jq-t-x\",\"uid\":\"u\",\"attempts\":1}},\
             \"created_at\":\"1970-01-01T00:00:00Z\",\"expires_at\":\"1970-01-01T00:00:00Z\",\"content_type\":\"text/plain; charset=utf-8\",\
             \"bytes\":10,\"sha256\":\"{}\"}}\nline\nline\n",
            "ab".repeat(32),
            entry().payload.sha256
        );
        assert_eq!(String::from_utf8(value.clone()).unwrap(), pinned);
        assert_eq!(decode(&value, &entry().key), Ok(entry()));
    }

    #[test]
    fn what_does_not_verify_is_no_result() {
        let value = encode(&entry());
        let other = RequestKey::from_hex(&"cd".repeat(32)).unwrap();
        assert_eq!(decode(&value, &other), Err(Invalid::Key));
        assert_eq!(decode(&value[..value.len() - 1], &entry().key), Err(Invalid::Bytes));
        assert_eq!(decode(b"", &entry().key), Err(Invalid::Version));
        assert_eq!(decode(b"jobquay2\n{}\n", &entry().key), Err(Invalid::Version));
        assert_eq!(decode(b"jobquay1\n{}\n", &entry().key), Err(Invalid::Header));
        assert_eq!(decode(&[VERSION, &[b'x'; 10_000]].concat(), &entry().key), Err(Invalid::Header));
        for position in 0..value.len() {
            let mut poisoned = value.clone();
            poisoned[position] ^= 1;
            if let Ok(read) = decode(&poisoned, &entry().key) {
                assert_eq!(read.payload.bytes, entry().payload.bytes, "byte {position}");
            }
        }
    }
}
