//! The signature over a cached value: HMAC-SHA256, with one key that signs and one more that is accepted.
//!
//! Who can write to Redis but has no key can take a result away, and bring back an old one of the same
//! key, but never make one.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key, Tag};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use crate::config::SecretText;

/// Begins the line of a signature, the rest of which is [`DIGITS`] hex digits.
pub(super) const PREFIX: &str = "hmac-sha256:";
pub(super) const DIGITS: usize = 64;

/// The keys, if there are any.
#[derive(Debug, Default)]
pub struct Seal {
    /// The first one signs.
    keys: Vec<Key>,
}

impl Seal {
    pub fn new(key: &SecretText, previous: &SecretText) -> Self {
        let keys = [key, previous].into_iter().filter(|key| !key.is_empty());
        Self { keys: keys.map(|key| Key::new(HMAC_SHA256, key.expose().as_bytes())).collect() }
    }

    /// Whether every value must have a good signature.
    pub(super) fn is_required(&self) -> bool {
        !self.keys.is_empty()
    }

    /// The line that goes between the first and the second of `parts`; `None` without a key.
    pub(super) fn line(&self, parts: &[&[u8]]) -> Option<String> {
        let tag = sign(self.keys.first()?, parts);
        Some(format!("{PREFIX}{}\n", HEXLOWER.encode(tag.as_ref())))
    }

    /// Whether `digits` are the signature of `parts` under one of the keys.
    pub(super) fn accepts(&self, parts: &[&[u8]], digits: &[u8]) -> bool {
        let Ok(given) = HEXLOWER_PERMISSIVE.decode(digits) else { return false };
        self.keys.iter().any(|key| verify_slices_are_equal(sign(key, parts).as_ref(), &given).is_ok())
    }
}

fn sign(key: &Key, parts: &[&[u8]]) -> Tag {
    let mut context = Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}
