use std::time::Duration;

use super::*;

fn load(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> Result<(Layered, Config), Error> {
    let directory =
        std::env::temp_dir().join(format!("jobquay-config-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("jobquay.toml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let loaded = Layered::load(Some(&path), environment, &flags)
        .and_then(|layered| layered.config().map(|config| (layered, config)));
    std::fs::remove_dir_all(&directory).unwrap();
    loaded
}

fn error(file: &str, environment: &[(&str, &str)], flags: &[&str]) -> String {
    load(file, environment, flags).map(|_| ()).expect_err("must be refused").to_string()
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let file = "[amqp]\nprefetch = 10\n[log]\nlevel = \"debug\"\n[inline.labels]\nteam = \"media\"\n";
    let environment = [("JOBQUAY__AMQP__PREFETCH", "20"), ("JOBQUAY__RESULTS__TTL", "1h"), ("HOME", "/")];
    let (layered, config) = load(file, &environment, &["amqp.prefetch=30"]).unwrap();
    assert_eq!(
        (config.amqp.prefetch, config.log.level.as_str(), config.results.ttl),
        (30, "debug", Duration::from_secs(3600))
    );
    assert_eq!(config.inline.labels.len(), 2);
    let source =
        |wanted: &str| layered.lines(&config).into_iter().find(|(key, ..)| key == wanted).unwrap().2.to_string();
    assert_eq!(source("amqp.prefetch"), "flag --set");
    assert_eq!(source("results.ttl"), "environment JOBQUAY__RESULTS__TTL");
    assert!(source("log.level").starts_with("file "));
    assert_eq!(source("instance"), "default");
}

#[test]
fn a_list_is_one_in_a_file_and_comma_separated_elsewhere() {
    let namespaces =
        |file, environment: &[_], flags: &[_]| load(file, environment, flags).unwrap().1.kubernetes.namespaces;
    assert_eq!(namespaces("[kubernetes]\nnamespaces = [\"a\", \"b\"]\n", &[], &[]), ["a", "b"]);
    assert_eq!(namespaces("", &[("JOBQUAY__KUBERNETES__NAMESPACES", "a, b,")], &[]), ["a", "b"]);
    assert!(namespaces("", &[("JOBQUAY__KUBERNETES__NAMESPACES", "a")], &["kubernetes.namespaces="]).is_empty());
    assert!(error("[kubernetes]\nnamespaces = \"a\"\n", &[], &[]).contains("must be a list of strings"));
    assert!(error("", &[], &["kubernetes.namespaces=a,B"]).contains("`B` is not the name of a namespace"));
}

#[test]
fn an_unknown_setting_is_refused_with_the_nearest_known_one() {
    assert!(error("[amqp]\nprefech = 1\n", &[], &[]).contains("`amqp.prefech`; did you mean `amqp.prefetch`?"));
    assert!(error("", &[("JOBQUAY__CACHE__ULR", "x")], &[]).contains("did you mean `cache.url`?"));
    assert!(error("", &[], &["nothing.like.it=1"]).contains("`jobquay config` lists them all"));
}

#[test]
fn a_wrong_value_is_named_with_its_origin() {
    assert!(error("[amqp]\nprefetch = \"many\"\n", &[], &[]).contains("`amqp.prefetch` must be an integer"));
    let message = error("", &[("JOBQUAY__RESULTS__TTL", "soon")], &[]);
    assert!(message.contains("JOBQUAY__RESULTS__TTL") && message.contains("`soon` is not a duration"), "{message}");
    for (flag, named) in [
        ("amqp.prefetch=0", "amqp.prefetch"),
        ("amqp.url=amqp://[::1]:5672/%2f", "IPv6"),
        ("amqp.url=amqp://host/", "/%2f"),
        ("amqp.url=http://host", "amqp or amqps"),
        ("cache.url=memcached://host", "redis"),
        ("replies.default=jobquay.requests", "replies.default"),
        ("http.listen=everywhere", "http.listen"),
        ("limits.run=500ms", "`limits.run`: 500ms is not a number of whole seconds"),
        ("limits.start=0s", "limits.start"),
        ("amqp.topology=guess", "amqp.topology"),
        ("noequals", "section.key=value"),
    ] {
        let message = error("", &[], &[flag]);
        assert!(message.contains(named), "{flag}: {message}");
    }
}

#[test]
fn a_password_is_never_printed() {
    let key = format!("cache.hmac_key=s3cret-{}", "k".repeat(32));
    let previous = format!("cache.hmac_previous=s3cret-{}", "p".repeat(32));
    let flags = ["amqp.url=amqp://anna:s3cret@host/%2f", "cache.url=redis://:s3cret@host", &key, &previous];
    let (layered, config) = load("", &[], &flags).unwrap();
    let printed = format!("{config:?} {:?}", layered.lines(&config));
    assert!(!printed.contains("s3cret") && printed.contains("anna:***@host"), "{printed}");
    assert!(printed.contains("(\"cache.hmac_key\", \"\\\"***\\\"\""), "{printed}");
    let (_, config) = load("", &[], &["cache.url=redis+unix:///run/redis.sock?user=anna&pass=s3cret"]).unwrap();
    assert_eq!(config.cache.url.to_string(), "redis+unix:///run/redis.sock?user=anna&pass=***");
    for (file, flags) in [
        ("", &["amqp.url=s3cret"][..]),
        ("", &["cache.hmac_key=s3cret"]),
        ("", &["cache.hmac_previous=s3cret-s3cret-s3cret-s3cret-s3cret"]),
        ("[cache]\nhmac_key = [\"s3cret\"]\n", &[]),
        ("[cache]\nhmac_key = \"s3cret\n", &[]),
    ] {
        let message = error(file, &[], flags);
        assert!(!message.contains("s3cret"), "{message}");
    }
    assert!(error("[log]\n\nlevel = debug\n", &[], &[]).contains("line 3: "));
}

#[test]
fn a_key_for_signatures_is_long_and_the_previous_one_needs_one_that_signs() {
    let long = "k".repeat(32);
    assert!(error("", &[], &["cache.hmac_key=short"]).contains("`cache.hmac_key`: has fewer than 32 characters"));
    assert!(error("", &[], &[&format!("cache.hmac_previous={long}")]).contains("without `cache.hmac_key`"));
    assert!(load("", &[], &[&format!("cache.hmac_key={long}")]).is_ok());
}
