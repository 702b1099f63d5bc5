use super::*;

const DEFAULTS: TemplateDefaults = TemplateDefaults {
    result_max: 1 << 20,
    limits: Limits {
        start: Duration::from_secs(300),
        image_pull: Duration::from_secs(120),
        run: Duration::from_secs(3600),
    },
};

const THUMBNAIL: &str = r#"
name: thumbnail
parameters:
  type: object
  required: [url]
  properties: {url: {type: string}, width: {type: integer, minimum: 16, maximum: 4096, default: 256}, trace: {type: string, default: ""}}
  additionalProperties: false
cache: {ttl: 24h, ignore: [/trace]}
result: {source: stdout, max: 64KiB}
limits: {in_flight: 50, start: 1m, image_pull: 30s, run: 2m}
lane: bulk
job:
  apiVersion: batch/v1
  kind: Job
  metadata: {annotations: {width: "{{ params.width }}", url: "{{ params.url }}"}}
  spec:
    backoffLimit: "{{ params.width }}"
    template:
      spec:
        containers:
        - {name: worker, image: "registry/worker:1", args: ["--url={{params.url}}", "{{ params.width }}", "{{ request.id }}", "{{ key }}"]}
"#;

fn load(yaml: &str) -> Result<Template, String> {
    Template::load(yaml, &DEFAULTS)
}

fn params(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn a_template_is_read_whole() {
    let template = load(THUMBNAIL).unwrap();
    assert_eq!(
        template.cache,
        TemplateCache { never: false, ttl: Some(Duration::from_secs(86_400)), ignore: vec!["/trace".into()] }
    );
    assert_eq!(template.result, ResultPlan { source: ResultSource::Stdout, max: 65_536 });
    assert_eq!(template.limits.run, Duration::from_secs(120));
    assert!(load(&THUMBNAIL.replace("cache: {ttl: 24h, ignore: [/trace]}", "cache: never")).unwrap().cache.never);
}

#[test]
fn a_wrong_template_is_refused_by_the_name_of_its_field() {
    for (from, to, named) in [
        ("result:", "reslut:", "reslut"),
        ("name: thumbnail", "name: Thumb Nail", "name"),
        ("type: object", "type: array", "parameters"),
        ("type: integer", "type: integral", "parameters"),
        ("64KiB", "64 kilo", "result.max"),
        ("run: 2m", "run: soon", "limits.run"),
        ("ttl: 24h", "ttl: 24 apples", "cache.ttl"),
        ("ttl: 24h", "tll: 24h", "tll"),
        ("cache: {ttl: 24h, ignore: [/trace]}", "cache: sometimes", "cache"),
        ("{{params.url}}", "{{params.uri}}", "params.uri"),
        ("{{params.url}}", "{{params.url", "without `}}`"),
        ("required: [url]", "required: []", "params.url"),
        ("kind: Job", "kind: Pod", "job.kind"),
        ("spec:\n    backoffLimit", "spec:\n    suspend: true\n    backoffLimit", "job.spec.suspend"),
        ("annotations:", "name: mine, annotations:", "job.metadata.name"),
        ("image:", "imagePullPolcy: Always, image:", "job.spec.template.spec.containers.0.imagePullPolcy"),
        ("backoffLimit:", "backofLimit:", "job.spec.backofLimit"),
        ("containers:", "restartPolicy: OnFailure\n        containers:", "restartPolicy"),
    ] {
        let changed = THUMBNAIL.replacen(from, to, 1);
        assert_ne!(changed, THUMBNAIL, "{from}");
        let error = load(&changed).expect_err(to);
        assert!(error.contains(named), "{to}: {error}");
    }
}

#[test]
fn parameters_get_their_defaults_and_are_checked_with_a_pointer() {
    let template = load(THUMBNAIL).unwrap();
    assert_eq!(template.accept(params(json!({"url": "u"}))).unwrap(), json!({"url": "u", "width": 256, "trace": ""}));
    for (given, pointer) in [
        (json!({"url": 1}), "/params/url"),
        (json!({"url": "u", "width": 5}), "/params/width"),
        (json!({}), "/params"),
        (json!({"url": "u", "x": 1}), "/params"),
    ] {
        let rejection = template.accept(params(given)).unwrap_err();
        assert_eq!((rejection.code, rejection.pointer.as_deref()), (Code::ParamsInvalid, Some(pointer)));
    }
}

#[test]
fn ignored_parameters_do_not_decide() {
    let template = load(THUMBNAIL).unwrap();
    assert_eq!(template.deciding(&json!({"url": "u", "trace": "t"})), json!({"url": "u"}));
}

#[test]
fn the_digest_follows_what_decides_a_result_and_nothing_else() {
    let digest = |yaml: &str| load(yaml).unwrap().digest;
    assert_eq!(digest(THUMBNAIL), digest(&THUMBNAIL.replace("ttl: 24h", "ttl: 1h").replace("run: 2m", "run: 9m")));
    assert_ne!(digest(THUMBNAIL), digest(&THUMBNAIL.replace("worker:1", "worker:2")));
}

#[test]
fn a_value_fills_a_scalar_and_never_the_structure() {
    let template = load(THUMBNAIL).unwrap();
    let hostile = "$(SECRET) $$ \"]}, {{ key }} \n- name: x";
    let filled =
        template.render(&Scope { params: &json!({"url": hostile, "width": 20}), request_id: "r$1", key: "k" }).unwrap();
    let args = &filled["spec"]["template"]["spec"]["containers"][0]["args"];
    let doubled = hostile.replace('$', "$$");
    assert_eq!(args, &json!([format!("--url={doubled}"), "20", "r$$1", "k"]));
    // Where the kubelet expands nothing the value stands as it came; elsewhere it keeps its type.
    assert_eq!(filled["metadata"]["annotations"], json!({"width": "20", "url": hostile}));
    assert_eq!(filled["spec"]["backoffLimit"], json!(20));
}

#[test]
fn a_sample_fits_the_schema() {
    assert_eq!(load(THUMBNAIL).unwrap().sample(), Some(json!({"url": "x", "width": 256, "trace": ""})));
}

#[test]
fn sizes_have_binary_units() {
    assert_eq!(parse_bytes("4096"), Ok(4096));
    assert_eq!(parse_bytes("1MiB"), Ok(1 << 20));
    assert_eq!(parse_bytes("64 KiB"), Ok(64 << 10));
    for bad in ["", "MiB", "1MB", "-1", "+1", "1\n", "1  KiB", "99999999999GiB"] {
        assert!(parse_bytes(bad).is_err(), "{bad}");
    }
}
