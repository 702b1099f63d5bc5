//! YAML as Kubernetes reads it, so that a manifest means the same here as under `kubectl`.

use serde::de::DeserializeOwned;

/// Parses one document; the error names line, column and field.
pub(super) fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    // Kubernetes' YAML is 1.1, where 0440 is a file mode; in 1.2 it would be four hundred and forty.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    #[test]
    fn numbers_are_read_as_kubernetes_reads_them() {
        let value: Value = super::from_str("{mode: 0440, plain: 12, text: \"0440\", on: true, word: on}").unwrap();
        assert_eq!(value, json!({"mode": 0o440, "plain": 12, "text": "0440", "on": true, "word": true}));
    }
}
