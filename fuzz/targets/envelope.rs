//! A value from Redis: reading is total, what is accepted is what was written, and what was written
//! reads back.
#![no_main]

use jiff::Timestamp;
use jobquay::cache::{Entry, decode, encode};
use jobquay::domain::event::JobInfo;
use jobquay::domain::key::RequestKey;
use jobquay::domain::outcome::{Payload, digest};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const VERSION: &[u8] = b"jobquay1\n";

fn check(value: &[u8], key: &RequestKey) {
    let Ok(entry) = decode(value, key) else { return };
    assert_eq!(entry.key, *key);
    assert_eq!(digest(&entry.payload.bytes), entry.payload.sha256);
    assert!(value.ends_with(&entry.payload.bytes));
    // Times and escapes may have been written shorter than they are written here.
    if value.len() - entry.payload.bytes.len() < 2000 {
        assert_eq!(decode(&encode(&entry), key), Ok(entry));
    }
}

/// The value with a header that names these bytes and this key: no mutation finds a digest.
fn mended(value: &[u8], key: &RequestKey) -> Option<Vec<u8>> {
    let rest = value.strip_prefix(VERSION)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let bytes = &rest[end + 1..];
    let mut header: Value = serde_json::from_slice(&rest[..end]).ok()?;
    let fields = header.as_object_mut()?;
    fields.insert("key".into(), key.to_string().into());
    fields.insert("bytes".into(), bytes.len().into());
    fields.insert("sha256".into(), digest(bytes).into());
    Some([VERSION, header.to_string().as_bytes(), b"\n", bytes].concat())
}

fuzz_target!(|data: &[u8]| {
    let key = RequestKey::from_hex(&"ab".repeat(32)).expect("64 digits");
    check(data, &key);
    if let Some(value) = mended(data, &key) {
        check(&value, &key);
    }
    let entry = Entry {
        key,
        job: JobInfo { namespace: "work".into(), name: "jq-t-x".into(), uid: "u".into(), attempts: 1 },
        created_at: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::MAX,
        payload: Payload::new(data.to_vec()),
    };
    let mut value = encode(&entry);
    assert_eq!(decode(&value, &key), Ok(entry));
    if let Some(position) = data.first().map(|byte| usize::from(*byte) * value.len() / 256) {
        value[position] ^= 1 << (data.len() % 8);
        check(&value, &key);
    }
});
