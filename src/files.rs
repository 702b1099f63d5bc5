//! The operator's files, read and handed to the rules.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::domain::catalog::Catalog;
use crate::domain::policy::Policies;
use crate::domain::template::{Template, TemplateDefaults};

/// A file that is not used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct Problem {
    pub path: PathBuf,
    pub reason: String,
}

/// The catalog, and the templates that did not make it there. One bad file does not keep the others out.
pub fn load_catalog(config: &Config) -> (Catalog, Vec<Problem>) {
    let (templates, problems) = match &config.templates.dir {
        Some(dir) => load_templates(dir, &config.template_defaults()),
        None => (BTreeMap::new(), Vec::new()),
    };
    let catalog = Catalog {
        templates,
        tenant: config.intake.tenant.clone(),
        inline: config.inline_defaults(),
        limits: config.default_limits(),
        result_max: config.results.max,
        ttl: config.results.ttl,
        keep: config.results.keep,
    };
    (catalog, problems)
}

/// The policies. A bad file is an error: to go on without it would allow what it forbids.
pub fn load_policies(config: &Config) -> Result<Policies, Problem> {
    let Some(path) = &config.policy.file else { return Ok(Policies::templates_only()) };
    let problem = |reason: String| Problem { path: path.clone(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?;
    Policies::load(&text).map_err(problem)
}

fn load_templates(dir: &Path, defaults: &TemplateDefaults) -> (BTreeMap<String, Template>, Vec<Problem>) {
    let mut templates = BTreeMap::new();
    let mut problems = Vec::new();
    let paths = match list(dir) {
        Ok(paths) => paths,
        Err(error) => {
            return (
                templates,
                vec![Problem { path: dir.to_owned(), reason: format!("cannot read the template directory: {error}") }],
            );
        }
    };
    for path in paths {
        let loaded = std::fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| Template::load(&text, defaults));
        match loaded {
            Ok(template) if templates.contains_key(&template.name) => {
                problems.push(Problem {
                    path,
                    reason: format!("name: a template `{}` was loaded from another file already", template.name),
                });
            }
            Ok(template) => drop(templates.insert(template.name.clone(), template)),
            Err(reason) => problems.push(Problem { path, reason }),
        }
    }
    (templates, problems)
}

/// In the order of their names, so that of two templates of one name always the same one is used.
fn list(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
