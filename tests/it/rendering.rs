//! What the containers of a template are given, and what the template commands say of it.

use std::process::Output;

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::support::dispatcher::jobquay;
use crate::support::stack::STACK;
use crate::support::{Request, World};

const TEMPLATE: &str = r#"
name: echo
parameters:
  type: object
  required: [values, variable]
  properties:
    values: {type: array, items: {type: string}}
    variable: {type: string}
result: {source: stdout, max: 1MiB}
job:
  apiVersion: batch/v1
  kind: Job
  spec:
    backoffLimit: 0
    template:
      spec:
        automountServiceAccountToken: false
        containers:
        - name: worker
          image: registry.local/worker:1
          imagePullPolicy: IfNotPresent
          command: [sh, -c, 'printf "%s\0" "$@" "$VARIABLE" | base64 | tr -d "\n"', sh]
          args: "{{ params.values }}"
          env: [{name: SECRET, value: hidden}, {name: VARIABLE, value: "{{ params.variable }}"}]
"#;

fn directory(world: &World, text: &str) -> String {
    let dir = STACK.dir.join(format!("{}-templates", world.name));
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("echo.yaml"), text).expect("a template");
    dir.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_given_the_exact_bytes_of_the_worst_values() {
    let world = World::new("exact-bytes").await;
    let _dispatcher = world.dispatcher_with(&[&format!("templates.dir={}", directory(&world, TEMPLATE))]).await;
    let mut producer = world.producer().await;
    let long = "$(SECRET)\n".repeat(6554);
    let values = [
        "",
        "$",
        "$$",
        "$$$",
        "$(SECRET)",
        "$$(SECRET)",
        "$$$(SECRET)",
        "$(SECRET",
        "${SECRET}",
        "$é",
        "{{ key }}",
        "{{ params.variable }}",
        "{{",
        "\"]}, {",
        "'; echo hidden; '",
        "`id`",
        "a\nb\r\nc\n",
        "\t\u{1b}[31m\u{7f}\u{1}",
        "日本\u{202e}\u{10ffff}",
        "- name: x\n  value: y",
        "\\n\\0%s",
        long.as_str(),
    ];
    let variable = "$(SECRET) $$(SECRET) {{ key }}\n\"'";
    let event = producer.ask(Request::template("echo", &json!({"values": values, "variable": variable}))).await;
    assert_eq!(event.state(), "succeeded", "{}", event.data());
    let text = event.result("text").as_str().expect("text");
    let bytes = BASE64.decode(text.as_bytes()).expect("base64");
    let given: Vec<_> =
        bytes.split(|byte| *byte == 0).map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    let expected: Vec<_> = values.into_iter().chain([variable, ""]).map(str::to_owned).collect();
    assert_eq!(given, expected);

    for params in [json!({"values": ["a\0b"], "variable": ""}), json!({"values": [], "variable": "\0"})] {
        let event = producer.ask(Request::template("echo", &params)).await;
        assert_eq!((event.state(), event.error("code")), ("rejected", &json!("params.invalid")));
        assert!(event.error("pointer").as_str().is_some_and(|pointer| pointer.starts_with("/params/v")));
    }
}

async fn run(world: &World, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = jobquay(world);
    command.args(arguments).envs(environment.iter().copied());
    let output: Output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("output");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The first member of `part` that is not in `whole`, but for the request's own annotation.
fn missing(part: &Value, whole: &Value, place: &str) -> Option<String> {
    match (part, whole) {
        (Value::Object(part), Value::Object(_)) => part
            .iter()
            .filter(|(name, _)| !name.starts_with("jobquay.dev/w."))
            .find_map(|(name, member)| missing(member, &whole[name], &format!("{place}/{name}"))),
        (Value::Array(part), Value::Array(_)) => {
            part.iter().enumerate().find_map(|(index, item)| missing(item, &whole[index], &format!("{place}/{index}")))
        }
        _ => (part != whole).then(|| format!("{place}: {part} {whole}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn render_prints_the_job_and_every_verdict_and_creates_nothing() {
    let world = World::new("render").await;
    let _dispatcher = world.dispatcher().await;
    let script = "script=printf on; : \"{{ key }} $(A)\" # 0440";
    let render = ["template", "render", "script", "--param", script];
    let (code, job, verdicts) = run(&world, &[&render[..], &["-o", "json"]].concat(), &[]).await;
    let job: Value = serde_json::from_str(&job).expect("a Job");
    assert_eq!(code, Some(0), "{verdicts}");
    assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["command"][2], script[7..].replace('$', "$$"));
    for line in ["key     sha256:", "cache   miss", "policy  allowed by `development`"] {
        assert!(verdicts.contains(line), "{line}: {verdicts}");
    }
    assert_eq!(world.all_jobs().await.len(), 0, "nothing was created");

    let mut producer = world.producer().await;
    producer.send(Request::template("script", &json!({"script": &script[7..]}))).await;
    // Looked at while it runs: when it is answered, it is let go.
    let created = serde_json::to_value(world.the_job().await).expect("a Job");
    let event = producer.event().await;
    assert!(verdicts.contains(event.data()["key"].as_str().expect("a key")), "the key that a request has");
    assert_eq!(missing(&job, &created, ""), None, "the API server adds defaults, and takes nothing away");
    let (_, _, verdicts) = run(&world, &render, &[]).await;
    assert!(verdicts.contains("cache   hit: "), "{verdicts}");
    let (code, _, verdicts) = run(&world, &render, &[("JOBQUAY__CACHE__URL", "redis://127.0.0.1:1")]).await;
    assert!(code == Some(0) && verdicts.contains("cache   cannot ask"), "{verdicts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rendered_yaml_means_to_kubectl_what_the_json_says() {
    let world = World::new("render-yaml").await;
    for value in
        ["on", "0440", "a: b", "- x", "'\"", "null", "1e3", "# x", "a\nb\n", "{{ key }}", "\u{7f}\u{85}", " x ", "~"]
    {
        let script = format!("script={}", json!(value));
        let render = ["template", "render", "script", "--param", &script];
        let (_, json, _) = run(&world, &[&render[..], &["-o", "json"]].concat(), &[]).await;
        let (_, yaml, _) = run(&world, &render, &[]).await;
        let json: Value = serde_json::from_str(&json).expect("a Job");
        let command = |job: &Value| job["spec"]["template"]["spec"]["containers"][0]["command"][2].clone();
        assert_eq!(command(&json), json!(value));
        let file = STACK.dir.join(format!("{}.yaml", world.name));
        std::fs::write(&file, &yaml).expect("a file");
        let mut kubectl = std::process::Command::new(crate::support::stack::root().join("deploy/local/stack"));
        kubectl.env("STACK_DIR", &STACK.dir).args(["kubectl", "create", "--dry-run=client", "-o", "json", "-f"]);
        let read = kubectl.arg(&file).output().expect("kubectl can be run");
        let read: Value = serde_json::from_slice(&read.stdout).unwrap_or_else(|error| panic!("{error}: {yaml}"));
        assert_eq!(command(&read), json!(value), "{yaml}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_template_commands_exit_by_what_they_found() {
    let world = World::new("template-commands").await;
    let (code, list, _) = run(&world, &["template", "ls"], &[]).await;
    assert_eq!(code, Some(0));
    let line = list.lines().find(|line| line.starts_with("script ")).expect("the template");
    assert!(line.contains("3600s") && line.contains("script*") && line.ends_with(" tag"), "{line}");
    assert_eq!(run(&world, &["template", "lint"], &[]).await.0, Some(0));

    let dir = directory(&world, &TEMPLATE.replace("image:", "imgae:"));
    for path in [dir.clone(), format!("{dir}/echo.yaml")] {
        let (code, _, wrong) = run(&world, &["template", "lint", &path], &[]).await;
        assert!(code == Some(1) && wrong.contains("echo.yaml") && wrong.contains("imgae"), "{wrong}");
    }
    let deny = STACK.dir.join(format!("{}-deny.yaml", world.name));
    std::fs::write(&deny, "policies:\n- {name: media, users: [media], templates: [script]}\n").expect("a policy file");
    let deny = [("JOBQUAY__POLICY__FILE", deny.to_str().expect("a path"))];
    let render = ["template", "render", "script", "--param", "script=x"];
    let (code, job, verdict) = run(&world, &render, &deny).await;
    assert!(
        code == Some(1) && job.contains("kind: Job") && verdict.contains("policy  refused: policy.denied"),
        "{verdict}"
    );
    let (code, _, verdict) = run(&world, &[&render[..], &["--user", "media"]].concat(), &deny).await;
    assert!(code == Some(0) && verdict.contains("policy  allowed by `media`"), "{verdict}");
    for (arguments, expected, named) in [
        (&["template", "render", "scirpt"][..], 1, "did you mean `script`"),
        (&["template", "render", "script"], 1, "params.invalid"),
        (&["template", "render", "script", "--param", "x"], 2, "key=value"),
        (&["template"], 2, "Usage"),
        (&["template", "lint", "/nowhere"], 1, "/nowhere"),
    ] {
        let (code, _, text) = run(&world, arguments, &[]).await;
        assert!(code == Some(expected) && text.contains(named), "{arguments:?}: {code:?} {text}");
    }
}
