//! The files of the corpus, read.
//!
//! A file is a JSON array of cases. A text in it is a string, or it is made: `{"hex": "fffe"}`, or
//! `{"before": "[", "repeat": "x", "times": 9, "after": "]"}`. A body that is neither is sent as its JSON.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::support::raw_amqp::{Properties, header, long};
use crate::support::stack::root;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// Also its message id and correlation id, unless it says otherwise.
    pub(super) name: String,
    body: Value,
    /// Over the usual ones; `null` takes one away.
    #[serde(default)]
    properties: BTreeMap<String, Option<Text>>,
    /// Name, letter of the type, value: the text of an `S`, the encoded bytes of any other.
    #[serde(default)]
    headers: Vec<(Text, char, Text)>,
    /// `rejected <code>`, `dead <code>`, `undeliverable`, `expired`, `succeeded`, `parked` (no client can parse it) or
    /// `refused` (the broker does not take it).
    pub(super) outcome: String,
    pointer: Option<Text>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Hex {
        hex: String,
    },
    Repeated {
        #[serde(default)]
        before: String,
        repeat: String,
        times: usize,
        #[serde(default)]
        after: String,
    },
}

impl Text {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Plain(text) => text.clone().into_bytes(),
            Self::Hex { hex } => (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("two hex digits"))
                .collect(),
            Self::Repeated { before, repeat, times, after } => {
                [before.as_str(), &repeat.repeat(*times), after].concat().into_bytes()
            }
        }
    }
}

impl Case {
    pub(super) fn body(&self) -> Vec<u8> {
        match serde_json::from_value::<Text>(self.body.clone()) {
            Ok(text) => text.bytes(),
            Err(_) => self.body.to_string().into_bytes(),
        }
    }

    pub(super) fn pointer(&self) -> Option<String> {
        self.pointer.as_ref().map(|text| String::from_utf8(text.bytes()).expect("a pointer is text"))
    }

    pub(super) fn properties(&self, replies: &str) -> Properties {
        let mut properties = Properties::persistent();
        let usual = [("message_id", self.name.as_str()), ("correlation_id", &self.name), ("reply_to", replies)];
        for (name, value) in usual.iter().filter(|(name, _)| !self.properties.contains_key(*name)) {
            properties.set(name, value.as_bytes());
        }
        for (name, value) in &self.properties {
            if let Some(value) = value {
                properties.set(name, &value.bytes());
            }
        }
        let encoded = |(name, kind, value): &(Text, char, Text)| {
            let value = if *kind == 'S' { long(&value.bytes()) } else { value.bytes() };
            header(&name.bytes(), u8::try_from(*kind).expect("a letter"), &value)
        };
        if !self.headers.is_empty() {
            properties.set_headers(&self.headers.iter().flat_map(encoded).collect::<Vec<_>>());
        }
        properties
    }
}

/// All cases, by whether they come to the dispatcher.
pub(super) struct Corpus {
    pub(super) delivered: Vec<Case>,
    pub(super) parked: Vec<Case>,
    pub(super) refused: Vec<Case>,
}

pub(super) fn read() -> Corpus {
    let mut cases: Vec<Case> = Vec::new();
    for entry in std::fs::read_dir(root().join("tests/fixtures/hostile")).expect("the corpus is there") {
        let path = entry.expect("an entry").path();
        let text = std::fs::read_to_string(&path).expect("a file of the corpus is text");
        let found: Vec<Case> =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        cases.extend(found);
    }
    let names: std::collections::BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len(), "a name stands twice");
    let (parked, others): (_, Vec<Case>) = cases.into_iter().partition(|case| case.outcome == "parked");
    let (refused, delivered) = others.into_iter().partition(|case| case.outcome == "refused");
    Corpus { delivered, parked, refused }
}
