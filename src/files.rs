//! The operator's files, read as they lie there at one moment, and handed to the rules.

mod shelf;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::domain::catalog::Catalog;
use crate::domain::namespaces::Namespaces;
use crate::domain::policy::Policies;
use crate::domain::template::{Template, TemplateDefaults};
pub use shelf::{Shelf, Taken};

/// A directory that is swapped while it is read is read again so often.
const TRIES: usize = 3;

/// A file that is not used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct Problem {
    pub path: PathBuf,
    pub reason: String,
}

/// The files of a directory by their paths: the text of each, or why it cannot be read.
pub type Texts = BTreeMap<PathBuf, Result<String, String>>;

/// The catalog, and the templates that did not make it there. One bad file does not keep the others out.
pub fn load_catalog(config: &Config, namespaces: &Namespaces) -> (Catalog, Vec<Problem>) {
    let mut shelf = Shelf::default();
    if let Some(dir) = &config.templates.dir {
        shelf.take(dir, read_templates(dir), &template_defaults(config, namespaces));
    }
    let catalog = Catalog { templates: shelf.templates(), ..empty_catalog(config, namespaces) };
    (catalog, shelf.problems())
}

/// What the configuration says about running, without any template.
pub fn empty_catalog(config: &Config, namespaces: &Namespaces) -> Catalog {
    Catalog {
        templates: BTreeMap::new(),
        namespaces: namespaces.clone(),
        tenant: config.intake.tenant.clone(),
        inline: config.inline_defaults(),
        limits: config.default_limits(),
        result_max: config.results.max,
        ttl: config.results.ttl,
        keep: config.results.keep,
    }
}

/// What a template gets that does not say it itself, and may name.
pub fn template_defaults(config: &Config, namespaces: &Namespaces) -> TemplateDefaults {
    TemplateDefaults { namespaces: Some(namespaces.clone()), ..config.template_defaults() }
}

/// The policies. A bad file is an error: to go on without it would allow what it forbids.
pub fn load_policies(config: &Config) -> Result<Policies, Problem> {
    match &config.policy.file {
        Some(path) => parse_policies(config, path, &read_text(path)),
        None => Ok(Policies::templates_only()),
    }
}

/// The policies of a text that was read at `path`.
pub fn parse_policies(config: &Config, path: &Path, text: &Result<String, String>) -> Result<Policies, Problem> {
    let lanes = config.lanes.keys().cloned().collect();
    let loaded = text
        .clone()
        .and_then(|text| Policies::load(&text))
        .and_then(|policies| policies.unknown_lane(&lanes).map_or(Ok(policies), Err));
    loaded.map_err(|reason| Problem { path: path.to_owned(), reason: one_line(&reason) })
}

/// One file, or why it cannot be read.
pub fn read_text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| error.to_string())
}

/// All templates of a directory, of one moment: a mounted ConfigMap is swapped by one symlink, `..data`, so
/// that is followed once and every file is read behind it.
pub fn read_templates(dir: &Path) -> Result<Texts, String> {
    let mut read = read_once(dir);
    for _ in 1..TRIES {
        match &read {
            // What was behind the symlink has been removed: there is another by now.
            Ok(texts) if texts.values().all(Result::is_ok) => break,
            _ => read = read_once(dir),
        }
    }
    read.map_err(|error| format!("cannot read the template directory: {error}"))
}

fn read_once(dir: &Path) -> std::io::Result<Texts> {
    let resolved = dir.canonicalize()?;
    let resolved = resolved.join("..data").canonicalize().unwrap_or(resolved);
    let mut texts = BTreeMap::new();
    for entry in std::fs::read_dir(&resolved)? {
        let name = entry?.file_name();
        let is_template =
            Path::new(&name).extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if is_template && !name.to_string_lossy().starts_with("..") {
            texts.insert(dir.join(&name), read_text(&resolved.join(&name)));
        }
    }
    Ok(texts)
}

/// One template file by itself.
pub fn load_template(
    path: &Path,
    text: &Result<String, String>,
    defaults: &TemplateDefaults,
) -> Result<Template, Problem> {
    let loaded = text.clone().and_then(|text| Template::load(&text, defaults));
    loaded.map_err(|reason| Problem { path: path.to_owned(), reason: one_line(&reason) })
}

/// For a line of a log or a terminal: parsers quote what they could not read, over several lines.
fn one_line(reason: &str) -> String {
    let words: Vec<_> = reason.split_whitespace().collect();
    words.join(" ").chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
