//! The rules, pure: values in, values out.
//!
//! Nothing here does I/O or waits, and nothing here knows the clients of RabbitMQ, Redis or
//! Kubernetes (a test reads the imports). Kubernetes' own types are plain data and are used as they are.
//!
//! Read in this order: [`request`], [`template`] and [`policy`], [`catalog`], [`rules`], [`key`],
//! [`manifest`], [`job`], [`outcome`], [`event`].

pub mod catalog;
pub mod decided;
pub mod earlier;
pub mod event;
pub mod explain;
pub mod fields;
pub mod job;
pub mod json;
pub mod key;
pub mod lanes;
pub mod log;
pub mod manifest;
pub mod members;
pub mod names;
pub mod namespaces;
pub mod outcome;
pub mod overdue;
pub mod policy;
pub mod refusal;
pub mod rejection;
pub mod request;
pub mod rules;
pub mod shards;
pub mod status;
pub mod template;
pub mod texts;
pub mod trial;
pub mod waiter;
mod yaml;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("the sources are there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { sources(&path, found) } else { found.push(path) }
        }
    }

    #[test]
    fn the_rules_know_no_client_no_runtime_and_no_edge() {
        let mut files = Vec::new();
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/domain"), &mut files);
        assert!(files.len() > 10);
        let forbidden = [
            "tokio",
            "lapin",
            "redis::",
            "kube::",
            "axum",
            "std::net",
            "std::process",
            "crate::queue",
            "crate::cache",
            "crate::cluster",
            "async ",
        ];
        for file in files.iter().filter(|file| !file.ends_with("tests.rs")) {
            let text = std::fs::read_to_string(file).expect("a source is text");
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            for (line, word) in lines.flat_map(|line| forbidden.iter().map(move |word| (line, word))) {
                assert!(!line.contains(word), "{}: `{word}` in: {line}", file.display());
            }
        }
    }
}
