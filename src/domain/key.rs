//! The key of a request: equal keys mean equal work, whoever asks.
//!
//! `sha256` over length-prefixed parts, so that no two lists of parts run into each other. Parameters
//! enter in RFC 8785 form; numbers that this form cannot tell apart were refused by [`super::json`].

use std::fmt;

use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::shards::SHARDS;

const VERSION: &str = "jobquay-key-v1";

/// SHA-256 of everything that decides a result.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestKey([u8; 32]);

/// What the key of one request is made of.
#[derive(Debug)]
pub struct KeyParts<'a> {
    pub tenant: &'a str,
    /// A template's name and digest, or `inline` and nothing.
    pub template: &'a str,
    pub digest: &'a str,
    /// The parameters with their defaults and less the ignored ones, or the normalised inline job.
    pub input: &'a Value,
    pub salt: Option<&'a str>,
    /// Set where results are not shared (`cache: never`).
    pub request_id: Option<&'a str>,
}

impl RequestKey {
    pub fn of(parts: &KeyParts<'_>) -> Self {
        // A `Value` has string keys and finite numbers only, which is all that RFC 8785 can refuse.
        let input = serde_json_canonicalizer::to_vec(parts.input).expect("a JSON value has a canonical form");
        let mut hash = Sha256::new();
        for part in
            [VERSION.as_bytes(), parts.tenant.as_bytes(), parts.template.as_bytes(), parts.digest.as_bytes(), &input]
        {
            update(&mut hash, part);
        }
        for optional in [parts.salt, parts.request_id] {
            hash.update([u8::from(optional.is_some())]);
            update(&mut hash, optional.unwrap_or_default().as_bytes());
        }
        Self(hash.finalize().into())
    }

    /// The same key, told apart by one request's id: the name of a Job that runs alone (`bypass`).
    #[must_use]
    pub fn alone(self, request_id: &str) -> Self {
        let mut hash = Sha256::new();
        update(&mut hash, &self.0);
        update(&mut hash, request_id.as_bytes());
        Self(hash.finalize().into())
    }

    /// Reads back what [`fmt::Display`] wrote.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let bytes = HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    pub fn hex(&self) -> String {
        self.text("")
    }

    /// As hex digits behind something.
    pub fn text(&self, before: &str) -> String {
        let mut text = String::with_capacity(before.len() + 64);
        text.push_str(before);
        HEXLOWER.encode_append(&self.0, &mut text);
        text
    }

    /// RFC 4648 in lower case, fit for a Kubernetes name: 26 characters, 130 bits, the part of a Job's name that makes it
    /// one name per key.
    pub fn base32(&self) -> String {
        // 17 bytes are 136 bits, and RFC 4648 takes them five by five from the front.
        let mut text = BASE32_NOPAD.encode(&self.0[..17]).to_ascii_lowercase();
        text.truncate(26);
        text
    }

    /// `0..SHARDS`.
    pub fn shard(&self) -> u16 {
        u16::from_be_bytes([self.0[30], self.0[31]]) % SHARDS
    }
}

fn update(hash: &mut Sha256, part: &[u8]) {
    hash.update((part.len() as u64).to_be_bytes());
    hash.update(part);
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text("sha256:"))
    }
}

impl fmt::Debug for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(input: &Value, salt: Option<&str>, request_id: Option<&str>) -> RequestKey {
        RequestKey::of(&KeyParts { tenant: "default", template: "t", digest: "d", input, salt, request_id })
    }

    #[test]
    fn the_key_is_pinned() {
        // Computed outside, with hashlib over the length-prefixed parts; a change here is a change of every key.
        let key = key(&json!({"b": 1, "a": "x"}), None, None);
        assert_eq!(key.to_string(), "sha256:c7e52728ff08fa4c04dcd3b187d8a25a679f4c0cdec6d17d29d8510478993349");
        assert_eq!(key.base32().len(), 26);
        assert_eq!(RequestKey::from_hex(&key.to_string()), Some(key));
    }

    #[test]
    fn the_order_of_fields_is_no_difference_and_every_part_is_one() {
        let input = json!({"a": 1});
        let all = [
            key(&input, None, None),
            key(&json!({"a": 2}), None, None),
            key(&input, Some(""), None),
            key(&input, Some("s"), None),
            key(&input, None, Some("s")),
            key(&input, None, None).alone("s"),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(key(&json!({"x": 1, "y": 2}), None, None), key(&json!({"y": 2, "x": 1}), None, None));
    }

    #[test]
    fn base32_is_rfc_4648() {
        // "foobar" is MZXW6YTBOI in RFC 4648; the first 9 characters cover its first 45 bits.
        let mut bytes = [0; 32];
        bytes[..6].copy_from_slice(b"foobar");
        assert_eq!(&RequestKey(bytes).base32()[..9], "mzxw6ytbo");
    }
}
