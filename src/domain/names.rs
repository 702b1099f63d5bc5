//! Names as Kubernetes allows them.

/// RFC 1123 label: lower-case letters, digits and `-`, at most 63 bytes, a letter or digit at both ends.
pub fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty() && text.len() <= 63 && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// RFC 1123 subdomain, as most objects are named: labels joined by dots, at most 253 bytes.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_kubernetes_takes() {
        assert!(is_label("a") && is_label("media-2") && is_label(&"a".repeat(63)));
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
        assert!(is_subdomain("gcp-key") && is_subdomain("a.b.c"));
        for bad in ["", ".", "a..b", "a.", "a/b", &"a.".repeat(130)] {
            assert!(!is_subdomain(bad), "{bad}");
        }
    }
}
