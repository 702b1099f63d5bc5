//! Why two requests have one key, or have not: what goes into a key, laid side by side.

use serde_json::Value;

use super::json;
use super::key::{KeyParts, RequestKey};

/// What the key of one request is made of, and the parameters beside it that decide nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Ingredients {
    pub tenant: String,
    /// A template's name and digest, or `inline` and nothing.
    pub template: String,
    pub digest: String,
    /// Where the input stands in the request: `/params` or `/job`.
    pub pointer: &'static str,
    /// All of it, with the defaults.
    pub input: Value,
    /// The same less what the template ignores.
    pub deciding: Value,
    pub salt: Option<String>,
    /// Set where results are not shared (`cache: never`).
    pub request_id: Option<String>,
}

/// One place at which two requests are not alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// An RFC 6901 pointer into the request, or `message_id`.
    pub place: String,
    /// `None` where a request has nothing there.
    pub values: [Option<Value>; 2],
    /// Whether it keeps the keys apart.
    pub decides: bool,
}

impl Ingredients {
    pub fn key(&self) -> RequestKey {
        RequestKey::of(&KeyParts {
            tenant: &self.tenant,
            template: &self.template,
            digest: &self.digest,
            input: &self.deciding,
            salt: self.salt.as_deref(),
            request_id: self.request_id.as_deref(),
        })
    }

    /// In the order in which a reader would look; empty where nothing differs.
    pub fn compare(&self, other: &Self) -> Vec<Difference> {
        let text = |text: &str| Some(Value::String(text.to_owned()));
        let optional = |value: &Option<String>| value.as_deref().and_then(text);
        let mut found = Vec::new();
        if self.template != other.template {
            let values = [text(&self.template), text(&other.template)];
            found.push(Difference { place: "/template".to_owned(), values, decides: true });
        } else {
            walk(self.pointer, Some(&self.input), Some(&other.input), &mut |place, values| {
                let decides = [&self.deciding, &other.deciding].into_iter().zip(&values).any(|(deciding, value)| {
                    let within = place.strip_prefix(self.pointer).unwrap_or_default();
                    value.is_some() && deciding.pointer(within).is_some()
                });
                found.push(Difference { place, values, decides });
            });
        }
        for (place, values) in [
            ("/cache/salt", [optional(&self.salt), optional(&other.salt)]),
            ("message_id", [optional(&self.request_id), optional(&other.request_id)]),
        ] {
            if values[0] != values[1] {
                found.push(Difference { place: place.to_owned(), values, decides: true });
            }
        }
        found
    }
}

/// Shows `differs` the deepest places at which two values have another canonical form.
fn walk(place: &str, one: Option<&Value>, other: Option<&Value>, differs: &mut impl FnMut(String, [Option<Value>; 2])) {
    if canonical(one) == canonical(other) {
        return;
    }
    match (one, other) {
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            let only_right = right.keys().filter(|name| !left.contains_key(*name));
            for name in left.keys().chain(only_right) {
                walk(&json::child(place, name), left.get(name), right.get(name), differs);
            }
        }
        (Some(Value::Array(left)), Some(Value::Array(right))) => {
            for at in 0..left.len().max(right.len()) {
                walk(&json::child(place, &at.to_string()), left.get(at), right.get(at), differs);
            }
        }
        _ => differs(place.to_owned(), [one.cloned(), other.cloned()]),
    }
}

/// As it enters a key: `1` and `1.0` are one number there.
fn canonical(value: Option<&Value>) -> Option<Vec<u8>> {
    // A `Value` has string keys and finite numbers only, which is all that RFC 8785 can refuse.
    value.map(|value| serde_json_canonicalizer::to_vec(value).expect("a JSON value has a canonical form"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ingredients(input: Value, deciding: Value) -> Ingredients {
        Ingredients {
            tenant: "default".into(),
            template: "t".into(),
            digest: "d".into(),
            pointer: "/params",
            input,
            deciding,
            salt: None,
            request_id: None,
        }
    }

    fn places(one: &Ingredients, other: &Ingredients) -> Vec<(String, bool)> {
        one.compare(other).into_iter().map(|difference| (difference.place, difference.decides)).collect()
    }

    #[test]
    fn every_place_that_differs_is_named_and_whether_it_decides() {
        let one = ingredients(
            json!({"a/b": [1, {"c": 2}], "trace": "x", "same": 1.0}),
            json!({"a/b": [1, {"c": 2}], "same": 1.0}),
        );
        let other = ingredients(
            json!({"a/b": [1, {"c": 3}, 4], "trace": "y", "same": 1}),
            json!({"a/b": [1, {"c": 3}, 4], "same": 1}),
        );
        let found = [("/params/a~1b/1/c", true), ("/params/a~1b/2", true), ("/params/trace", false)];
        assert_eq!(places(&one, &other), found.map(|(place, decides)| (place.to_owned(), decides)));
        assert_ne!(one.key(), other.key());
    }

    #[test]
    fn requests_without_a_deciding_difference_have_one_key_and_the_others_have_not() {
        let base = ingredients(json!({"a": 1, "trace": "x"}), json!({"a": 1}));
        let variants = [
            ingredients(json!({"a": 1, "trace": "y"}), json!({"a": 1})),
            ingredients(json!({"a": 1}), json!({"a": 1})),
            ingredients(json!({"a": 2, "trace": "x"}), json!({"a": 2})),
            ingredients(json!({"trace": "x"}), json!({})),
            Ingredients { salt: Some("s".into()), ..base.clone() },
            Ingredients { request_id: Some("r".into()), ..base.clone() },
            Ingredients { template: "u".into(), ..base.clone() },
        ];
        for variant in variants {
            let decides = base.compare(&variant).iter().any(|difference| difference.decides);
            assert_eq!(base.key() != variant.key(), decides, "{variant:?}");
        }
    }
}
