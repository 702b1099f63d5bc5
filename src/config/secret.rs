//! Texts that nothing prints: URLs that may hold a password, and keys.

use std::fmt;

use serde::{Deserialize, Deserializer};
use url::Url;

/// Prints with its password as `***`, whichever way it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretUrl(Url);

impl SecretUrl {
    /// The whole URL, for the client that connects with it.
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.0.clone();
        if url.password().is_some() && url.set_password(Some("***")).is_err() {
            return f.write_str("***");
        }
        // Where Redis listens on a socket its URL has it there.
        if self.0.query_pairs().any(|(name, _)| name == "pass") {
            let hidden = self
                .0
                .query_pairs()
                .map(|(name, value)| if name == "pass" { (name, "***".into()) } else { (name, value) });
            url.query_pairs_mut().clear().extend_pairs(hidden);
        }
        url.fmt(f)
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The text is left out of the error: it may hold the password.
        let text = String::deserialize(deserializer)?;
        Url::parse(&text).map(Self).map_err(|error| serde::de::Error::custom(format!("not a URL: {error}")))
    }
}

/// A key; prints as `***`. Empty where there is none.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// The whole text, for what is keyed with it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "" } else { "***" })
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
