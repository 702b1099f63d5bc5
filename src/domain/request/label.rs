//! Labels that a request may put on its Job.

/// Kubernetes' rules for a label, less the prefixes that are the system's and ours.
pub(super) fn check(name: &str, value: &str) -> Result<(), String> {
    let word = |text: &str, limit: usize| {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        text.len() <= limit
            && text.chars().all(inner)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let (prefix, short) = name.rsplit_once('/').unwrap_or(("", name));
    if !word(short, 63) || !(prefix.is_empty() || word(prefix, 253)) {
        return Err(format!("`{name}` is not a Kubernetes label name"));
    }
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
