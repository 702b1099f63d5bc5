//! The layers of the configuration, and where each value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, Error};
use crate::domain::fields::nearest;

/// The file of defaults, which also explains each setting.
pub(crate) const DEFAULTS: &str = include_str!("default.toml");
const PREFIX: &str = "JOBQUAY__";
/// The tables whose keys are the operator's own, each with the type of its values in the defaults.
const FREE: [&str; 2] = ["inline.labels", "lanes"];
/// What no message repeats.
const SECRETS: [&str; 4] = ["amqp.url", "cache.url", "cache.hmac_key", "cache.hmac_previous"];

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Default,
    File(PathBuf),
    Environment(String),
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag => f.write_str("flag --set"),
        }
    }
}

/// All layers, flattened to `section.key`.
#[derive(Debug)]
pub struct Layered {
    known: BTreeMap<String, Value>,
    values: BTreeMap<String, (Value, Source)>,
}

impl Layered {
    /// Lays file, environment and flags over the defaults.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &[String],
    ) -> Result<Self, Error> {
        let defaults: Table = DEFAULTS.parse().expect("the defaults are TOML, as every test that loads them shows");
        let known = flatten(defaults);
        let values = known.iter().map(|(key, value)| (key.clone(), (value.clone(), Source::Default))).collect();
        let mut layered = Self { known, values };
        if let Some(path) = file {
            layered.add_file(path)?;
        }
        for (name, text) in environment {
            if let Some(key) = name.strip_prefix(PREFIX) {
                let key = key.to_lowercase().replace("__", ".");
                layered.add_text(&key, text, Source::Environment(name))?;
            }
        }
        for flag in flags {
            let (key, text) = flag.split_once('=').ok_or_else(|| Error::Flag(flag.clone()))?;
            layered.add_text(key.trim(), text.to_owned(), Source::Flag)?;
        }
        Ok(layered)
    }

    /// The configuration that the layers come to.
    pub fn config(&self) -> Result<Config, Error> {
        let mut root = Table::new();
        for (key, (value, _)) in &self.values {
            insert(&mut root, key, value.clone());
        }
        let config: Config = Value::Table(root).try_into().map_err(|error: toml::de::Error| Error::Value {
            origin: self.origin_in(&error.to_string()),
            message: error.message().to_owned(),
        })?;
        config
            .check()
            .map_err(|(key, message)| Error::Value { origin: format!("{} `{key}`", self.source(key)), message })?;
        Ok(config)
    }

    /// Each setting with its value and source, secrets redacted.
    pub fn lines(&self, config: &Config) -> Vec<(String, String, Source)> {
        let shown = |key: &str, value: &Value| match key {
            "amqp.url" => format!("\"{}\"", config.amqp.url),
            "cache.url" => format!("\"{}\"", config.cache.url),
            "cache.hmac_key" => format!("\"{}\"", config.cache.hmac_key),
            "cache.hmac_previous" => format!("\"{}\"", config.cache.hmac_previous),
            _ => value.to_string(),
        };
        self.values.iter().map(|(key, (value, source))| (key.clone(), shown(key, value), source.clone())).collect()
    }

    fn add_file(&mut self, path: &Path) -> Result<(), Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| Error::Syntax {
            origin: path.display().to_string(),
            message: without_the_text(&text, &error),
        })?;
        for (key, value) in flatten(table) {
            let source = Source::File(path.to_owned());
            self.check_known(&key, &source)?;
            if let Some(known) = self.known_value(&key).filter(|known| !known.same_type(&value)) {
                let found = if SECRETS.contains(&key.as_str()) { "***".to_owned() } else { value.to_string() };
                return Err(Error::Type { origin: source.to_string(), key, expected: type_name(known), found });
            }
            self.values.insert(key, (value, source));
        }
        Ok(())
    }

    /// A value that came as text gets the type of its default.
    fn add_text(&mut self, key: &str, text: String, source: Source) -> Result<(), Error> {
        self.check_known(key, &source)?;
        let value = match self.known_value(key) {
            Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
            Some(Value::Boolean(_)) => text.parse().ok().map(Value::Boolean),
            Some(Value::Array(_)) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Some(Value::Array(items.map(|item| Value::String(item.to_owned())).collect()))
            }
            _ => Some(Value::String(text.clone())),
        };
        let value = value.ok_or_else(|| Error::Type {
            origin: source.to_string(),
            key: key.to_owned(),
            expected: self.known_value(key).map_or("a string", type_name),
            found: text,
        })?;
        self.values.insert(key.to_owned(), (value, source));
        Ok(())
    }

    /// The default of a setting; in a free table that of any of its keys, whose type is the same.
    fn known_value(&self, key: &str) -> Option<&Value> {
        let in_its_table = || {
            let (table, _) = split_free(key)?;
            self.known.iter().find(|(known, _)| split_free(known).is_some_and(|(other, _)| other == table))
        };
        self.known.get(key).or_else(|| in_its_table().map(|(_, value)| value))
    }

    fn check_known(&self, key: &str, source: &Source) -> Result<(), Error> {
        if self.known_value(key).is_some() {
            return Ok(());
        }
        let hint = nearest(key, self.known.keys().map(String::as_str)).map_or_else(
            || "; `jobquay config` lists them all".to_owned(),
            |known| format!("; did you mean `{known}`?"),
        );
        Err(Error::Unknown { origin: source.to_string(), key: key.to_owned(), hint })
    }

    fn source(&self, key: &str) -> String {
        self.values.get(key).map_or_else(String::new, |(_, source)| source.to_string())
    }

    /// TOML's message ends with the key it choked on: "in `amqp.url`".
    fn origin_in(&self, message: &str) -> String {
        let key = message.rsplit("in `").next().and_then(|rest| rest.split('`').next()).unwrap_or_default();
        match self.values.get(key) {
            Some((_, source)) => format!("{source} `{key}`"),
            None => "configuration".into(),
        }
    }
}

/// The whole message quotes the line that it is about, and that may hold a secret.
fn without_the_text(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, error.message())
}

fn flatten(table: Table) -> BTreeMap<String, Value> {
    let mut flat = BTreeMap::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                flat.extend(flatten(inner).into_iter().map(|(rest, value)| (format!("{key}.{rest}"), value)))
            }
            value => drop(flat.insert(key, value)),
        }
    }
    flat
}

/// A label's name may hold dots, so only the free table's prefix is split from its key.
fn insert(root: &mut Table, key: &str, value: Value) {
    let path: Vec<&str> = match split_free(key) {
        Some((table, own)) => table.split('.').chain([own]).collect(),
        None => key.split('.').collect(),
    };
    let (last, parents) = path.split_last().expect("splitting gives at least one part");
    let mut table = root;
    for parent in parents {
        let entry = table.entry(*parent).or_insert_with(|| Value::Table(Table::new()));
        table = entry.as_table_mut().expect("known keys never are a prefix of one another");
    }
    table.insert((*last).to_owned(), value);
}

/// A key of a free table as the table and the operator's own key.
fn split_free(key: &str) -> Option<(&'static str, &str)> {
    FREE.iter().find_map(|table| Some((*table, key.strip_prefix(table)?.strip_prefix('.')?)))
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "an integer",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list of strings",
        _ => "a string",
    }
}
