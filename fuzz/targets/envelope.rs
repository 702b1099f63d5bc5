//! A value from Redis: reading is total, what is accepted is what was written, and what was written
//! reads back.
#![no_main]

use jiff::Timestamp;
use jobquay::cache::{Entry, Seal, decode, encode};
use jobquay::config::SecretText;
use jobquay::domain::event::JobInfo;
use jobquay::domain::key::RequestKey;
use jobquay::domain::outcome::{Payload, digest};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const VERSION: &[u8] = b"jobquay1\n";

fn seal(key: &str) -> Seal {
    let secret = |text: &str| serde_json::from_value::<SecretText>(text.into()).expect("a text");
    Seal::new(&secret(key), &secret(""))
}

fn check(value: &[u8], key: &RequestKey, seal: &Seal) {
    let Ok(entry) = decode(value, key, seal) else { return };
    assert_eq!(entry.key, *key);
    assert_eq!(digest(&entry.payload.bytes), entry.payload.sha256);
    assert!(value.ends_with(&entry.payload.bytes));
    // Times and escapes may have been written shorter than they are written here.
    if value.len() - entry.payload.bytes.len() < 2000 {
        assert_eq!(decode(&encode(&entry, seal), key, seal), Ok(entry));
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
    let (open, signed) = (seal(""), seal("a key for signatures of thirty-two bytes"));
    check(data, &key, &open);
    assert!(decode(data, &key, &signed).is_err(), "nobody guesses a signature");
    if let Some(value) = mended(data, &key) {
        check(&value, &key, &open);
        assert!(decode(&value, &key, &signed).is_err(), "nobody guesses a signature");
    }
    let entry = Entry {
        key,
        template: None,
        job: JobInfo { namespace: "work".into(), name: "jq-t-x".into(), uid: "u".into(), attempts: 1 },
        created_at: Timestamp::UNIX_EPOCH,
        expires_at: Timestamp::MAX,
        payload: Payload::new(data.to_vec()),
    };
    let flip = |value: &mut [u8]| {
        let position = usize::from(*data.first()?) * value.len() / 256;
        value[position] ^= 1 << (data.len() % 8);
        Some(())
    };
    let mut value = encode(&entry, &open);
    assert_eq!(decode(&value, &key, &open).as_ref(), Ok(&entry));
    if flip(&mut value).is_some() {
        check(&value, &key, &open);
    }
    let mut value = encode(&entry, &signed);
    assert_eq!(decode(&value, &key, &signed).as_ref(), Ok(&entry));
    // Unchanged where the digits of the signature are written in another case.
    if flip(&mut value).is_some() && !value.eq_ignore_ascii_case(&encode(&entry, &signed)) {
        assert!(decode(&value, &key, &signed).is_err());
    }
});
