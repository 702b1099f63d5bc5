//! Labels that a request may put on its Job.

use crate::domain::names::is_subdomain;

/// Kubernetes' rules for a label, less the prefixes that are the system's and ours.
pub(super) fn check(name: &str, value: &str) -> Result<(), String> {
    let word = |text: &str, limit: usize| {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        text.len() <= limit
            && text.chars().all(inner)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let (prefix, short) = match name.rsplit_once('/') {
        Some((prefix, short)) => (Some(prefix), short),
        None => (None, name),
    };
    if !word(short, 63) || prefix.is_some_and(|prefix| !is_subdomain(prefix)) {
        return Err(format!("`{name}` is not a Kubernetes label name"));
    }
    let prefix = prefix.unwrap_or_default();
    if ["jobquay.dev", "kubernetes.io", "k8s.io"]
        .iter()
        .any(|own| prefix == *own || prefix.ends_with(&format!(".{own}")) || prefix.ends_with("x-k8s.io"))
    {
        return Err(format!("labels under `{prefix}/` are not a request's to set"));
    }
    if !value.is_empty() && !word(value, 63) {
        return Err(format!("`{value}` is not a Kubernetes label value"));
    }
    Ok(())
}
