//! What is shipped cannot be made to crash.

/// The variable stands in the binary when, and only when, the points do anything.
#[test]
fn only_a_build_with_the_feature_has_crash_points() {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_jobquay")).expect("the binary");
    let variable = [b"JOBQUAY".as_slice(), b"_CRASH"].concat();
    let has_points = binary.windows(variable.len()).any(|bytes| bytes == variable);
    assert_eq!(has_points, cfg!(feature = "crash-points"));
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).expect("the manifest");
    let features = manifest.split("[features]").nth(1).expect("features are declared");
    assert!(!features.lines().any(|line| line.starts_with("default")), "no feature is on unless it is asked for");
    for file in ["Makefile", "deploy/Dockerfile", "docker-compose.yml"] {
        let text = std::fs::read_to_string(format!("{}/{file}", env!("CARGO_MANIFEST_DIR"))).expect(file);
        let shipped = text.lines().filter(|line| line.contains("cargo build"));
        assert!(shipped.clone().all(|line| !line.contains("--features")), "{file}");
    }
}
