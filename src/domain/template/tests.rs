use super::*;

const DEFAULTS: TemplateDefaults = TemplateDefaults {
    namespaces: None,
    lanes: None,
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
        ("name: thumbnail", "name: inline", "name: `inline`"),
        ("type: object", "type: array", "parameters"),
        ("type: integer", "type: integral", "parameters"),
        ("64KiB", "64 kilo", "result.max"),
        ("run: 2m", "run: soon", "limits.run"),
        ("run: 2m", "run: 500ms", "limits.run: 500ms is not a number of whole seconds"),
        ("start: 1m", "start: 0s", "limits.start"),
        ("image_pull: 30s", "image_pull: 1s500ms", "limits.image_pull"),
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
fn the_variable_that_names_the_key_of_a_result_is_jobquays() {
    let own = THUMBNAIL.replace("image:", "env: [{name: A}, {name: JOBQUAY_RESULT_KEY, value: mine}], image:");
    assert!(load(&own).is_ok(), "it says nothing where the source is another");
    let error = load(&own.replace("source: stdout", "source: redis")).unwrap_err();
    assert!(error.contains("containers.0.env.1: JOBQUAY_RESULT_KEY is set by jobquay"), "{error}");
    assert!(load(&THUMBNAIL.replace("source: stdout", "source: redis")).is_ok());
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
fn a_value_fills_a_scalar_and_never_the_structure() {
    let template = load(THUMBNAIL).unwrap();
    let hostile = "$(SECRET) $$ \"]}, {{ key }} \n- name: x";
    let filled = template
        .body
        .render(&Scope { params: &json!({"url": hostile, "width": 20}), request_id: "r$1", key: "k" })
        .unwrap();
    let args = &filled["spec"]["template"]["spec"]["containers"][0]["args"];
    let doubled = hostile.replace('$', "$$");
    assert_eq!(args, &json!([format!("--url={doubled}"), "20", "r$$1", "k"]));
    // Where the kubelet expands nothing the value stands as it came; elsewhere it keeps its type.
    assert_eq!(filled["metadata"]["annotations"], json!({"width": "20", "url": hostile}));
    assert_eq!(filled["spec"]["backoffLimit"], json!(20));
}

#[test]
fn a_text_that_no_process_can_be_started_with_is_refused_by_its_parameter() {
    let template = load(THUMBNAIL).unwrap();
    let params = template.accept(params(json!({"url": "a\0b"}))).unwrap();
    let rejection = template.body.render(&Scope { params: &params, request_id: "r", key: "k" }).unwrap_err();
    assert_eq!((rejection.code, rejection.pointer.as_deref()), (Code::ParamsInvalid, Some("/params/url")));
}

#[test]
fn a_sample_fits_the_schema() {
    let params = json!({"url": "x", "width": 256, "trace": ""});
    assert_eq!(load(THUMBNAIL).unwrap().sample(), Some(Sample { params, guessed: true }));
    let named = THUMBNAIL.replace("url: {type: string}", "url: {type: string, examples: [u]}");
    assert!(!load(&named).unwrap().sample().unwrap().guessed);
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

fn with_parameters(parameters: &str) -> Result<Template, String> {
    load(&format!(
        "name: t\nparameters: {parameters}\njob: {{apiVersion: batch/v1, kind: Job, spec: {{template: {{spec: {{containers: [{{name: w, image: i}}]}}}}}}}}\n"
    ))
}

#[test]
fn defaults_are_filled_in_wherever_they_hold_for_every_value() {
    let template = with_parameters(
        r##"
  type: object
  properties:
    size: {type: object, default: {}, properties: {width: {default: 256}, height: {type: integer}}}
    crop: {type: object, properties: {x: {default: 0}}}
    files: {type: array, items: {type: object, properties: {mode: {default: r}}}}
    retry: {$ref: "#/$defs/retry"}
    given: {default: [{}], items: {properties: {a: {default: 1}}}}
  allOf: [{properties: {lang: {default: en}}}, {$ref: "#/$defs/more"}]
  $defs:
    retry: {type: object, default: {}, properties: {times: {default: 3}}}
    more: {properties: {lang: {default: fr}, zone: {default: utc}}}
"##,
    )
    .unwrap();
    let filled = |given: Value| template.accept(params(given)).unwrap();
    let defaults =
        json!({"size": {"width": 256}, "retry": {"times": 3}, "given": [{"a": 1}], "lang": "en", "zone": "utc"});
    assert_eq!(filled(json!({})), defaults, "and no `crop`, which has no default itself");
    let given = filled(json!({"size": {"height": 1}, "crop": {}, "files": [{}, {"mode": "w"}], "lang": "de"}));
    assert_eq!((&given["size"], &given["crop"]), (&json!({"width": 256, "height": 1}), &json!({"x": 0})));
    assert_eq!((&given["files"], &given["lang"]), (&json!([{"mode": "r"}, {"mode": "w"}]), &json!("de")));
    assert_eq!(filled(filled(json!({}))), defaults, "filling in twice changes nothing");
}

#[test]
fn a_default_that_depends_on_the_value_and_a_schema_that_refers_to_itself_are_refused() {
    for (parameters, named) in [
        ("{type: object, anyOf: [{properties: {a: {default: 1}}}]}", "parameters.anyOf.0.properties.a.default"),
        ("{type: object, properties: {a: {unevaluatedItems: {default: 1}}}}", "properties.a.unevaluatedItems.default"),
        ("{type: object, if: {}, then: {properties: {a: {default: 1}}}}", "parameters.then.properties.a.default"),
        ("{type: object, additionalProperties: {default: 1}}", "parameters.additionalProperties.default"),
        ("{type: object, patternProperties: {x: {default: 1}}}", "parameters.patternProperties.x.default"),
        (
            "{type: object, oneOf: [{$ref: '#/$defs/d'}], $defs: {d: {properties: {a: {default: 1}}}}}",
            "parameters.oneOf.0.properties.a.default",
        ),
        ("{type: object, properties: {a: {$ref: '#'}}}", "refers to itself"),
        ("{type: object, $ref: '#/$defs/a', $defs: {a: {allOf: [{$ref: '#/$defs/a'}]}}}", "refers to itself"),
    ] {
        let error = with_parameters(parameters).expect_err(parameters);
        assert!(error.contains(named), "{parameters}: {error}");
    }
    // The same words as names and values are no keywords.
    let plain = "{type: object, properties: {default: {enum: [{default: 1}]}, anyOf: {type: string, default: x}}}";
    with_parameters(plain).unwrap();
}

#[test]
fn a_placeholder_may_rely_on_what_is_always_there() {
    let job = |parameters: &str, placeholder: &str| {
        load(&format!(
            "name: t\nparameters: {parameters}\njob: {{apiVersion: batch/v1, kind: Job, spec: {{template: {{spec: {{containers: [{{name: w, image: i, args: [\"{placeholder}\"]}}]}}}}}}}}\n"
        ))
    };
    let nested = "{type: object, properties: {a: {default: {}, allOf: [{properties: {b: {default: 1}}}]}}}";
    assert!(job(nested, "{{ params.a.b }}").is_ok());
    assert!(job(nested, "{{ params.a.c }}").is_err());
    assert!(job("{type: object, properties: {a: {properties: {b: {default: 1}}}}}", "{{ params.a.b }}").is_err());
    for (text, fine) in [
        ("5$ {{ key }}", true),
        ("{{ key }}$", true),
        ("$(HOME)/{{ key }}", true),
        ("$${{ key }}", true),
        ("${{ key }}", false),
        ("$$${{ key }}", false),
        ("$(A{{ key }})", false),
        ("$({{ key }}", false),
    ] {
        assert_eq!(job("{type: object}", text).is_ok(), fine, "{text}");
    }
}

#[test]
fn what_fills_a_whole_object_or_list_is_still_only_a_value() {
    let template = load(
        r#"
name: t
parameters: {type: object, required: [args, env, meta]}
job:
  apiVersion: batch/v1
  kind: Job
  metadata: {labels: "{{ params.meta }}"}
  spec: {template: {spec: {containers: [{name: w, image: i, args: "{{ params.args }}", env: "{{ params.env }}"}]}}}
"#
        .replace(
            "required: [args, env, meta]",
            "required: [args, env, meta], properties: {args: {}, env: {}, meta: {}}",
        )
        .as_str(),
    )
    .unwrap();
    let render = |params: Value| template.body.render(&Scope { params: &params, request_id: "r", key: "k" });
    let env = json!([{"name": "A", "value": "$(B)"}]);
    let filled = render(json!({"args": ["$(A)", "{{ key }}"], "env": env, "meta": {"n": 1}})).unwrap();
    let container = &filled["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"], json!(["$$(A)", "{{ key }}"]));
    assert_eq!((&container["env"][0]["value"], &filled["metadata"]["labels"]["n"]), (&json!("$$(B)"), &json!("1")));
}

#[test]
fn a_nul_is_refused_where_no_container_can_be_given_it() {
    let template = load(THUMBNAIL).unwrap();
    let rejection = template
        .body
        .render(&Scope { params: &json!({"url": "a\0b", "width": 1}), request_id: "r", key: "k" })
        .unwrap_err();
    assert_eq!((rejection.code, rejection.pointer.as_deref()), (Code::ParamsInvalid, Some("/params/url")));
}

mod key;
mod properties;
