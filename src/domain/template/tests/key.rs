//! What a key is made of, and what of a Job must be made of nothing else.

use super::*;

#[test]
fn ignored_parameters_do_not_decide() {
    let template = load(THUMBNAIL).unwrap();
    assert_eq!(*template.deciding(&json!({"url": "u", "trace": "t"})), json!({"url": "u"}));
}

#[test]
fn the_digest_follows_what_decides_a_result_and_nothing_else() {
    let digest = |yaml: &str| load(yaml).unwrap().digest;
    assert_eq!(digest(THUMBNAIL), digest(&THUMBNAIL.replace("ttl: 24h", "ttl: 1h").replace("run: 2m", "run: 9m")));
    assert_ne!(digest(THUMBNAIL), digest(&THUMBNAIL.replace("worker:1", "worker:2")));
}

#[test]
fn a_namespace_is_one_of_the_dispatchers_and_made_of_what_is_in_the_key() {
    let namespaces = Some(Namespaces { own: "work".into(), further: vec!["media".into()] });
    let defaults = TemplateDefaults { namespaces, ..DEFAULTS };
    for (metadata, named) in [
        ("namespace: media, annotations:", None),
        ("namespace: '{{ params.url }}', annotations:", None),
        ("namespace: 'media-{{ params.url }}', annotations:", None),
        ("namespace: other, annotations:", Some("add it to `kubernetes.namespaces`")),
        ("namespace: Media, annotations:", Some("`Media`")),
        ("namespace: '{{ request.id }}', annotations:", Some("`request.id` is not part of the key")),
        ("namespace: '{{ params.trace }}', annotations:", Some("`params.trace` is not part of the key")),
    ] {
        let loaded = Template::load(&THUMBNAIL.replacen("annotations:", metadata, 1), &defaults);
        match named {
            None => drop(loaded.expect(metadata)),
            Some(named) => assert!(loaded.unwrap_err().contains(named), "{metadata}"),
        }
    }
    let whole = THUMBNAIL.replace(
        "metadata: {annotations: {width: \"{{ params.width }}\", url: \"{{ params.url }}\"}}",
        "metadata: '{{ params.url }}'",
    );
    assert!(load(&whole).unwrap_err().contains("job.metadata:"));
}

#[test]
fn what_decides_which_secret_a_job_sees_is_part_of_its_key() {
    for (cache, secret, named) in [
        ("cache: {ignore: [/trace]}", "{{ params.url }}", None),
        ("cache: {ignore: [/trace]}", "{{ key }}", None),
        ("cache: never", "{{ params.trace }}-{{ request.id }}", None),
        ("cache: {ignore: [/trace]}", "of-{{ params.trace }}", Some("`params.trace` is not part of the key")),
        ("cache: {ignore: [/trace]}", "{{ request.id }}", Some("`request.id` is not part of the key")),
    ] {
        let volumes =
            format!("        volumes: [{{name: v, secret: {{secretName: '{secret}'}}}}]\n        containers:");
        let yaml = THUMBNAIL.replace("cache: {ttl: 24h, ignore: [/trace]}", cache).replacen(
            "        containers:",
            &volumes,
            1,
        );
        let refused = load(&yaml).err().unwrap_or_default();
        assert_eq!(named.is_none(), refused.is_empty(), "{secret}: {refused}");
        assert!(named.is_none_or(|named| refused.contains(named)), "{refused}");
        assert!(named.is_none() || refused.starts_with("job.spec.template.spec.volumes.0.secret.secretName: "));
    }
}
