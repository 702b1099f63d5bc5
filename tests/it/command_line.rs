//! The command line: what it prints where, and how it exits.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::support::World;
use crate::support::dispatcher::jobquay;
use crate::support::stack::{STACK, root};

/// Runs `jobquay` in the world; waiting must not block the runtime that records and consumes.
pub(crate) async fn run(world: &World, arguments: &[&str], input: &str) -> Output {
    let mut command = jobquay(world);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("jobquay can be run");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
    tokio::task::spawn_blocking(move || child.wait_with_output())
        .await
        .expect("waiting does not panic")
        .expect("its output")
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What is printed is what the repository holds, byte by byte: the documents are made from the code alone.
#[tokio::test(flavor = "multi_thread")]
async fn schema_prints_each_document_of_the_contract() {
    let world = World::new("schema").await;
    let documents =
        ["request", "event", "template", "policy", "config"].map(|name| (name, format!("docs/schema/{name}.json")));
    for (name, file) in documents
        .into_iter()
        .chain([("asyncapi", "docs/asyncapi.json".to_owned()), ("openapi", "docs/openapi.json".to_owned())])
    {
        let printed = run(&world, &["schema", name], "").await;
        let kept = std::fs::read_to_string(root().join(&file)).expect("the document");
        assert_eq!((printed.status.code(), out(&printed)), (Some(0), kept), "{file}");
    }
    let unknown = run(&world, &["schema", "cat"], "").await;
    assert_eq!(unknown.status.code(), Some(2));
    assert!(err(&unknown).contains("cat") && err(&unknown).contains("asyncapi"), "{}", err(&unknown));
}

/// They need no configuration, and so nothing that may be wrong with one.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_is_written_down_for_shells_and_for_readers() {
    let world = World::new("man").await;
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&world, &["completions", shell, "--set", "no.such=1"], "").await;
        assert!(script.status.success() && out(&script).contains("jobquay"), "{shell}: {}", err(&script));
    }
    let page = run(&world, &["man"], "").await;
    assert!(page.status.success() && out(&page).contains(".TH jobquay 1"), "{}", out(&page));
    let dir = STACK.dir.join(&world.name);
    std::fs::create_dir_all(&dir).expect("a directory");
    let pages = run(&world, &["man", "--dir", dir.to_str().expect("a path")], "").await;
    assert!(pages.status.success() && dir.join("jobquay-submit.1").exists(), "{}", err(&pages));
    let nowhere = run(&world, &["man", "--dir", "/no/such"], "").await;
    assert!(
        nowhere.status.code() == Some(1) && err(&nowhere).contains("cannot write to /no/such"),
        "{}",
        err(&nowhere)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_prints_data_on_stdout_and_progress_on_stderr() {
    let world = World::new("submit").await;
    let _dispatcher = world.dispatcher().await;
    let waited = run(&world, &["submit", "--template", "script", "--param", "script=echo hello", "--wait"], "").await;
    assert_eq!((waited.status.code(), out(&waited)), (Some(0), "hello\n".into()), "{}", err(&waited));
    assert!(err(&waited).contains("succeeded in"));

    let body = json!({"template": "script", "params": {"script": "echo '{\"a\": 1}'"}}).to_string();
    let event = run(&world, &["submit", "-", "--wait", "-o", "event"], &body).await;
    let event: Value = serde_json::from_str(&out(&event)).expect("an event");
    assert_eq!((&event["specversion"], &event["data"]["result"]["json"]), (&json!("1.0"), &json!({"a": 1})));
    let data = run(&world, &["submit", "-", "--wait", "-o", "json"], &body).await;
    let data: Value = serde_json::from_str(&out(&data)).expect("the event's data");
    assert_eq!(data["served_by"], "cache");

    let digits =
        json!({"template": "script", "params": {"script": "echo '{\"b\": 12345678901234567890, \"a\": 1.0}'"}})
            .to_string();
    let digits = run(&world, &["submit", "-", "--wait"], &digits).await;
    assert_eq!(out(&digits), "{\"b\": 12345678901234567890, \"a\": 1.0}\n", "as the worker wrote it");

    let sent = run(&world, &["submit", "-"], &body).await;
    assert_eq!((sent.status.code(), out(&sent).trim().len()), (Some(0), 36), "the request id");
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_exits_by_what_came_of_it() {
    let world = World::new("exit-codes").await;
    let _dispatcher = world.dispatcher().await;
    let failed =
        run(&world, &["submit", "--template", "script", "--param", "script=echo why >&2; exit 9", "--wait"], "").await;
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        err(&failed).contains("job.failed")
            && err(&failed).contains("exit     9")
            && err(&failed).contains("log      why"),
        "{}",
        err(&failed)
    );
    let rejected = run(&world, &["submit", "-", "--wait"], "{\"template\": \"script\", \"params\": {}}").await;
    assert_eq!(rejected.status.code(), Some(1));
    assert!(err(&rejected).contains("params.invalid") && err(&rejected).contains("/params"));
    for usage in [
        &["submit"][..],
        &["submit", "--param", "a=b"],
        &["submit", "no-such-file", "--wait"],
        &["sbumit"],
        &["serve", "--set", "amqp.ulr=x"],
    ] {
        assert_eq!(run(&world, usage, "").await.status.code(), Some(2), "{usage:?}");
    }
    let unreachable =
        run(&world, &["submit", "-", "--set", "amqp.url=amqp://guest:hidden@127.0.0.1:1/%2f"], "{}").await;
    assert_eq!(unreachable.status.code(), Some(3));
    assert!(
        err(&unreachable).contains("cannot reach RabbitMQ") && !err(&unreachable).contains("hidden"),
        "{}",
        err(&unreachable)
    );
    let late =
        run(&world, &["submit", "--template", "script", "--param", "script=sleep 60", "--wait", "--timeout", "1s"], "")
            .await;
    assert_eq!(late.status.code(), Some(124));
    assert!(err(&late).contains("no answer within"));
}

#[tokio::test(flavor = "multi_thread")]
async fn submit_without_a_dispatcher_ever_started_says_so() {
    let world = World::new("no-queue").await;
    let output = run(&world, &["submit", "-"], "{}").await;
    assert_eq!(output.status.code(), Some(3));
    assert!(err(&output).contains("there is no queue jobquay.requests"), "{}", err(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_of_each_thing_whether_it_is_there_and_how_to_mend_it() {
    let world = World::new("check").await;
    let _dispatcher = world.dispatcher().await;
    let good = run(&world, &["check"], "").await;
    assert_eq!(good.status.code(), Some(0), "{}", out(&good));
    for line in [
        "rabbitmq",
        "queue jobquay.requests",
        "redis",
        "kubernetes",
        "may create jobs",
        "may get pods/log",
        "template script",
        "policy",
    ] {
        assert!(
            out(&good).lines().any(|found| found.starts_with("ok ") && found.contains(line)),
            "{line}: {}",
            out(&good)
        );
    }
    assert!(!out(&good).contains("guest:guest"));

    let dir = crate::support::stack::STACK.dir.join(&world.name);
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("bad.yaml"), "name: bad\nnmae: x\njob: {}\n").expect("a template");
    let unusable = "name: unusable\njob: {apiVersion: batch/v1, kind: Job, spec: {template: {spec: {containers: [{name: W_W, image: x}]}}}}\n";
    std::fs::write(dir.join("unusable.yaml"), unusable).expect("a template");
    world.broker.declare("jobquay.undeliverable", &json!({"x-queue-type": "quorum"}));
    world.broker.delete_queue("jobquay.dead");
    let settings = [
        format!("templates.dir={}", dir.display()),
        "cache.url=redis://127.0.0.1:1".to_owned(),
        "amqp.topology=check".to_owned(),
    ];
    let arguments: Vec<&str> =
        ["check"].into_iter().chain(settings.iter().flat_map(|setting| ["--set", setting])).collect();
    let bad = run(&world, &arguments, "").await;
    assert_eq!(bad.status.code(), Some(1));
    let wrong: Vec<_> = out(&bad).lines().filter(|line| line.starts_with("WRONG")).map(str::to_owned).collect();
    assert_eq!(wrong.len(), 4, "{}", out(&bad));
    for (named, why) in
        [("queue jobquay.dead", "NOT_FOUND"), ("redis", ""), ("template", "nmae"), ("template unusable", "W_W")]
    {
        assert!(wrong.iter().any(|line| line.contains(named) && line.contains(why)), "{named}: {wrong:#?}");
    }
    assert_eq!(out(&bad).matches('→').count(), 4, "each with what to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn config_prints_every_value_with_its_origin_and_no_secret() {
    let world = World::new("config").await;
    let output =
        run(&world, &["config", "--set", "amqp.prefetch=7", "--set", "cache.url=redis://:hidden@host"], "").await;
    let text = out(&output);
    let line = |key: &str| {
        text.lines()
            .find(|line| line.split(' ').next() == Some(key))
            .unwrap_or_else(|| panic!("{key} in {text}"))
            .to_owned()
    };
    assert!(line("amqp.prefetch").contains("= 7 ") && line("amqp.prefetch").ends_with("# flag --set"));
    assert!(line("intake.tenant").ends_with("# environment JOBQUAY__INTAKE__TENANT"));
    assert!(line("results.ttl").ends_with("# default"));
    assert!(!text.contains("hidden") && !text.contains("guest:guest"));
    let unknown = run(&world, &["config", "--set", "amqp.prefech=7"], "").await;
    assert_eq!(unknown.status.code(), Some(2));
    assert!(err(&unknown).contains("did you mean `amqp.prefetch`?"));
}
