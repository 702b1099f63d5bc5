//! The inline form of a request: one container, described by a handful of fields and nothing else,
//! so that no field of a pod can be reached that is not listed here.

use serde_json::{Value, json};

use crate::domain::fields::Fields;
use crate::domain::json::child;
use crate::domain::names::{is_label, is_subdomain};
use crate::domain::rejection::{Code, Rejection};

/// Longer than any quantity that means something.
const MAX_QUANTITY: usize = 32;

/// A Job described in the request itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineJob {
    pub name: String,
    pub image: String,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub secret: Option<SecretMount>,
    pub cpu: Option<String>,
    pub memory: Option<String>,
}

/// A Secret that becomes a read-only volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretMount {
    pub name: String,
    pub mount: String,
}

impl InlineJob {
    /// The one form that all equal inline jobs share; it is what the key is made of.
    pub fn normalised(&self) -> Value {
        let env: serde_json::Map<_, _> = self.env.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let secret = self.secret.as_ref().map(|secret| json!({"name": secret.name, "mount": secret.mount}));
        json!({
            "name": self.name, "image": self.image, "command": self.command, "args": self.args,
            "env": env, "secret": secret, "resources": {"cpu": self.cpu, "memory": self.memory},
        })
    }
}

pub(super) fn parse(value: Value, pointer: &str) -> Result<InlineJob, Rejection> {
    let mut fields = Fields::of(value, pointer)?;
    let name = fields.required_string("name")?;
    require(is_label(&name), &fields, "name", &name, "lower-case letters, digits and `-`, at most 63")?;
    let image = fields.required_string("image")?;
    let plain = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    require(plain(&image), &fields, "image", &image, "an image reference without spaces")?;
    let mut job = InlineJob {
        name,
        image,
        command: fields.strings("command")?,
        args: fields.strings("args")?,
        env: fields.string_map("env")?,
        secret: None,
        cpu: None,
        memory: None,
    };
    job.env.sort();
    for (name, value) in &job.env {
        let valid = !name.is_empty() && !name.contains(|c: char| c == '=' || c.is_control());
        require(valid, &fields, "env", name, "names of environment variables")?;
        require(!value.contains('\0'), &fields, "env", name, "values without NUL")?;
    }
    for (field, texts) in [("command", &job.command), ("args", &job.args)] {
        require(!texts.iter().any(|text| text.contains('\0')), &fields, field, "", "texts without NUL")?;
    }
    if let Some(secret) = fields.take("secret") {
        job.secret = Some(parse_secret(secret, &fields.pointer_to("secret"))?);
    }
    if let Some(resources) = fields.take("resources") {
        let mut resources = Fields::of(resources, &fields.pointer_to("resources"))?;
        job.cpu = parse_quantity(&mut resources, "cpu")?;
        job.memory = parse_quantity(&mut resources, "memory")?;
        resources.finish()?;
    }
    fields.finish()?;
    Ok(job)
}

/// The API server checks the form; it also takes a number of a hundred thousand digits.
fn parse_quantity(resources: &mut Fields, field: &'static str) -> Result<Option<String>, Rejection> {
    let quantity = resources.string(field)?;
    let text = quantity.as_deref().unwrap_or_default();
    require(text.len() <= MAX_QUANTITY, resources, field, text, "quantities such as 500m or 512Mi")?;
    Ok(quantity)
}

fn parse_secret(value: Value, pointer: &str) -> Result<SecretMount, Rejection> {
    let mut fields = Fields::of(value, pointer)?;
    let secret = SecretMount { name: fields.required_string("name")?, mount: fields.required_string("mount")? };
    require(is_subdomain(&secret.name), &fields, "name", &secret.name, "the name of a Secret")?;
    let mount = &secret.mount;
    // Mounting over the root or climbing out of it would hide or reach what is not the Secret's.
    let absolute = mount.starts_with('/')
        && mount.split('/').any(|part| !["", "."].contains(&part))
        && !mount.contains([':', '\0'])
        && !mount.split('/').any(|part| part == "..");
    require(absolute, &fields, "mount", mount, "an absolute directory other than `/`, without `..` or `:`")?;
    fields.finish()?;
    Ok(secret)
}

fn require(holds: bool, fields: &Fields, field: &str, value: &str, expected: &str) -> Result<(), Rejection> {
    if holds {
        return Ok(());
    }
    let pointer = if field == "env" { child(&fields.pointer_to(field), value) } else { fields.pointer_to(field) };
    Err(Rejection::at(Code::Malformed, &pointer, format!("`{value}` is not accepted; allowed are {expected}")))
}
