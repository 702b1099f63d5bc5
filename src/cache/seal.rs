//! The signature over what is kept in Redis: HMAC-SHA256, with one key that signs and one more that is accepted.
//!
//! Who can write to Redis but has no key can take a result or a record away, and bring back an old one of the same
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

    /// The line that goes between the first and the second of `parts`; `None` without a key.
    pub(super) fn line(&self, parts: &[&[u8]]) -> Option<String> {
        let tag = sign(self.keys.first()?, parts);
        Some(format!("{PREFIX}{}\n", HEXLOWER.encode(tag.as_ref())))
    }

    /// Whether `signature` is that of `parts` under one of the keys. Without a key a signature says nothing.
    pub(super) fn accepts(&self, parts: &[&[u8]], signature: Option<&[u8]>) -> bool {
        if self.keys.is_empty() {
            return true;
        }
        let Some(given) = signature.and_then(|digits| HEXLOWER_PERMISSIVE.decode(digits).ok()) else { return false };
        self.keys.iter().any(|key| verify_slices_are_equal(sign(key, parts).as_ref(), &given).is_ok())
    }

    /// A record that is kept under this name, behind its signature where there is a key.
    pub(super) fn sealed(&self, name: &str, record: &str) -> String {
        let signature = self.line(&[name.as_bytes(), b"\n", record.as_bytes()]).unwrap_or_default();
        format!("{signature}{record}")
    }

    /// The record that was found under this name; `None` where it has to have a good signature and has none.
    pub(super) fn opened<'a>(&self, name: &str, found: &'a [u8]) -> Option<&'a [u8]> {
        let (signature, record) = split(found)?;
        self.accepts(&[name.as_bytes(), b"\n", record], signature).then_some(record)
    }
}

/// The digits of the signature that a text begins with, if it does, and the rest; `None` where one has no end.
pub(super) fn split(text: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let Some(signed) = text.strip_prefix(PREFIX.as_bytes()) else { return Some((None, text)) };
    let end = signed.iter().take(DIGITS + 1).position(|byte| *byte == b'\n')?;
    Some((Some(&signed[..end]), &signed[end + 1..]))
}

fn sign(key: &Key, parts: &[&[u8]]) -> Tag {
    let mut context = Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(keys: [&str; 2]) -> Seal {
        let [key, previous] = keys.map(|key| serde_json::from_value::<SecretText>(key.into()).unwrap());
        Seal::new(&key, &previous)
    }

    #[test]
    fn a_record_counts_under_its_own_name_with_a_good_signature_alone() {
        let (ours, without) = (seal(["k", ""]), seal(["", ""]));
        let record = ours.sealed("jobquay:answered:1", "failed then");
        let opened = |seal: &Seal, name: &str, text: &str| {
            seal.opened(name, text.as_bytes()).map(|record| String::from_utf8_lossy(record).into_owned())
        };
        assert_eq!(opened(&ours, "jobquay:answered:1", &record).as_deref(), Some("failed then"));
        assert_eq!(opened(&seal(["new", "k"]), "jobquay:answered:1", &record).as_deref(), Some("failed then"));
        assert_eq!(opened(&ours, "jobquay:answered:2", &record), None, "it was moved");
        assert_eq!(opened(&ours, "jobquay:answered:1", "failed then"), None);
        assert_eq!(opened(&ours, "jobquay:answered:1", &record.replace("then", "now")), None);
        assert_eq!(opened(&seal(["other", ""]), "jobquay:answered:1", &record), None);
        for text in [record.as_str(), "failed then"] {
            assert_eq!(opened(&without, "jobquay:answered:1", text).as_deref(), Some("failed then"));
        }
        assert_eq!(opened(&ours, "jobquay:answered:1", PREFIX), None);
        assert_eq!(without.sealed("jobquay:answered:1", "failed then"), "failed then");
    }
}
