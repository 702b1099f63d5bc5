//! Parameters fill the scalars of a template's Job and change nothing else of it; a container sees them
//! byte for byte.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use jobquay::domain::json;
use jobquay::domain::template::{Limits, Scope, Template, TemplateDefaults};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

const TEMPLATE: &str = r#"
name: fuzzed
parameters:
  type: object
  required: [text, any]
  properties:
    text: {type: string}
    any: {}
    nested: {type: object, default: {deep: x}, properties: {deep: {type: string, default: x}}}
job:
  apiVersion: batch/v1
  kind: Job
  metadata: {annotations: {whole: "{{ params.any }}", part: "<{{params.text}}|{{ key }}>"}}
  spec:
    backoffLimit: "{{ params.any }}"
    template:
      spec:
        containers:
        - name: worker
          image: "registry/{{ params.text }}:1"
          args: ["{{ params.text }}", "--text={{ params.text }};", "{{ params.any }}", "{{ request.id }}", "$(KEPT)"]
          env: [{name: A, value: "{{ params.text }}"}, {name: B, value: plain}]
"#;

static LOADED: LazyLock<(Template, Value)> = LazyLock::new(|| {
    let second = Duration::from_secs(1);
    let limits = Limits { start: second, image_pull: second, run: second };
    let template = Template::load(TEMPLATE, &TemplateDefaults { result_max: 1, limits, namespaces: None, lanes: None })
        .expect("it loads");
    let job = template
        .body
        .render(&Scope { params: &json!({"text": "PLAIN", "any": "PLAIN", "nested": {}}), request_id: "r", key: "k" })
        .expect("it renders");
    (template, job)
});

/// What the kubelet makes of a container's argument (third_party/forked/golang/expansion), with no
/// variable known.
fn expanded(text: &str) -> String {
    text.replace("$$", "$")
}

/// Whether `rendered` has the shape of `plain`; only these places may hold other text.
fn same_shape(plain: &Value, rendered: &Value, pointer: &str) {
    match (plain, rendered) {
        (_, _) if pointer == "/spec/backoffLimit" => {}
        (Value::Object(plain), Value::Object(rendered)) => {
            assert!(plain.keys().eq(rendered.keys()), "{pointer}");
            plain.iter().for_each(|(name, member)| same_shape(member, &rendered[name], &format!("{pointer}/{name}")));
        }
        (Value::Array(plain), Value::Array(rendered)) => {
            assert_eq!(plain.len(), rendered.len(), "{pointer}");
            for (index, item) in plain.iter().enumerate() {
                same_shape(item, &rendered[index], &format!("{pointer}/{index}"));
            }
        }
        (Value::String(plain), Value::String(_)) if plain.contains("PLAIN") => {}
        (plain, rendered) => assert_eq!(plain, rendered, "{pointer}"),
    }
}

fuzz_target!(|data: &[u8]| {
    let (template, plain) = &*LOADED;
    let Ok(Value::Object(params)) = json::parse(data) else { return };
    let Ok(params) = template.accept(params) else { return };
    let Ok(job) = template.body.render(&Scope { params: &params, request_id: "r", key: "k" }) else {
        assert!(params.to_string().contains("\\u0000"), "only what no process can be started with is refused");
        return;
    };
    same_shape(plain, &job, "");
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let text = params["text"].as_str().expect("as the schema says");
    let any = match &params["any"] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let seen = |value: &Value| expanded(value.as_str().expect("an argument is text"));
    assert_eq!(seen(&container["args"][0]), text);
    assert_eq!(seen(&container["args"][1]), format!("--text={text};"));
    assert_eq!(seen(&container["args"][2]), any);
    assert_eq!(seen(&container["env"][0]["value"]), text);
    assert_eq!(container["image"], format!("registry/{text}:1"));
    assert_eq!(job["metadata"]["annotations"]["part"], format!("<{text}|k>"));
    assert_eq!(job["spec"]["backoffLimit"], params["any"]);
});
