//! Templates and policies that change while requests are under way.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::stack::STACK;
use crate::support::{Dispatcher, Request, World, eventually};

/// A directory as the kubelet mounts a ConfigMap: files are symlinks through `..data`, which is swapped whole.
struct Mount(PathBuf);

impl Mount {
    fn create(world: &World, files: &[(&str, &str)]) -> Self {
        let mount = Self(STACK.dir.join(format!("{}-mount", world.name)));
        std::fs::create_dir_all(&mount.0).expect("a directory");
        mount.swap(files);
        for (name, _) in files {
            std::os::unix::fs::symlink(Path::new("..data").join(name), mount.0.join(name)).expect("a symlink");
        }
        mount
    }

    /// Puts these in the place of what was there, and removes that.
    fn swap(&self, files: &[(&str, &str)]) {
        let data = self.0.join("..data");
        let old = data.canonicalize().ok();
        let version = format!("..{}", uuid::Uuid::now_v7());
        std::fs::create_dir(self.0.join(&version)).expect("a version");
        for (name, text) in files {
            std::fs::write(self.0.join(&version).join(name), text).expect("a file");
        }
        let next = self.0.join("..data_tmp");
        std::os::unix::fs::symlink(&version, &next).expect("a symlink");
        std::fs::rename(&next, &data).expect("the swap");
        if let Some(old) = old {
            std::fs::remove_dir_all(old).expect("the old version goes");
        }
    }
}

fn template(script: &str) -> String {
    format!(
        r#"
name: changing
parameters: {{type: object, properties: {{n: {{type: integer, default: 0}}}}}}
job:
  apiVersion: batch/v1
  kind: Job
  spec:
    backoffLimit: 0
    template:
      spec:
        automountServiceAccountToken: false
        terminationGracePeriodSeconds: 1
        containers:
        - {{name: worker, image: "registry.local/worker:1", imagePullPolicy: IfNotPresent, command: [sh, -c, "{script}"]}}
"#
    )
}

fn request(n: usize) -> Request {
    Request::template("changing", &json!({"n": n}))
}

async fn metric(dispatcher: &Dispatcher, name: &str, labels: &str, expected: f64) {
    eventually(&format!("{name}{{{labels}}} is {expected}"), async || {
        (dispatcher.metric(name, labels) == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_directory_is_used_from_then_on_and_what_is_under_way_ends_as_it_began() {
    let world = World::new("reload").await;
    let mount = Mount::create(&world, &[("changing.yaml", &template("sleep 4; echo one"))]);
    let dispatcher =
        world.dispatcher_with(&[&format!("templates.dir={}", mount.0.display()), "templates.reload=200ms"]).await;
    let mut producer = world.producer().await;
    let first = producer.send(request(1)).await;
    world.the_job().await;
    mount.swap(&[
        ("changing.yaml", &template("echo two")),
        ("more.yaml", &template("echo x").replace("changing", "more")),
    ]);
    metric(&dispatcher, "jobquay_templates", "", 2.0).await;
    let second = producer.send(request(1)).await;
    let events = producer.events(2).await;
    for (id, text) in [(first, "one\n"), (second, "two\n")] {
        let event = events.iter().find(|event| event.request_id() == id).expect("an answer to each");
        assert_eq!((event.state(), event.result("text")), ("succeeded", &json!(text)));
    }
    mount.swap(&[("more.yaml", &template("echo x").replace("changing", "more"))]);
    metric(&dispatcher, "jobquay_templates", "", 1.0).await;
    assert_eq!(producer.ask(request(1)).await.error("code"), &json!("template.unknown"));
    assert_eq!(dispatcher.log().matches("a template was loaded").count(), 2, "each change is said once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_turns_bad_is_named_and_its_last_good_version_stays() {
    let world = World::new("turns-bad").await;
    let good = template("echo good");
    let mount = Mount::create(&world, &[("changing.yaml", &good)]);
    let dispatcher =
        world.dispatcher_with(&[&format!("templates.dir={}", mount.0.display()), "templates.reload=200ms"]).await;
    let mut producer = world.producer().await;
    let refused_by_the_server = good.replace("name: worker,", "name: W_W,");
    for (round, bad, named) in
        [(1, good.replace("backoffLimit", "backofLimit"), "job.spec.backofLimit"), (2, refused_by_the_server, "W_W")]
    {
        mount.swap(&[("changing.yaml", &bad)]);
        metric(&dispatcher, "jobquay_reloads_total", "result=\"refused\"", f64::from(round)).await;
        metric(&dispatcher, "jobquay_templates_unusable", "", 1.0).await;
        let (status, text) = dispatcher.get("/readyz?verbose").expect("an answer");
        let line = text.lines().find(|line| line.starts_with("[!]")).expect("a line");
        assert!(status == 200 && line.contains("changing.yaml") && line.contains(named), "{text}");
        let log = dispatcher.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("not used") && line.contains(named)).collect();
        assert!(lines.len() == 1 && lines[0].contains("changing.yaml"), "{lines:#?}");
        let event = producer.ask(request(round as usize)).await;
        assert_eq!((event.state(), event.result("text")), ("succeeded", &json!("good\n")));
    }
    mount.swap(&[("changing.yaml", &template("echo better"))]);
    metric(&dispatcher, "jobquay_templates_unusable", "", 0.0).await;
    assert!(!dispatcher.get("/readyz?verbose").expect("an answer").1.contains("[!]"));
    assert_eq!(producer.ask(request(3)).await.result("text"), &json!("better\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_file_is_followed_and_a_bad_one_changes_nothing() {
    let world = World::new("policy-reload").await;
    let file = STACK.dir.join(format!("{}.yaml", world.name));
    let policy = |templates: &str| {
        format!("policies:\n- name: all\n  users: ['.*']\n  templates: [{templates}]\n  reply_to: ['.*']\n")
    };
    std::fs::write(&file, policy("script")).expect("a policy file");
    let settings = [&format!("policy.file={}", file.display()), "templates.reload=200ms"];
    let dispatcher = world.dispatcher_with(&settings).await;
    let mut producer = world.producer().await;
    let ask = |text: &str| Request::template("script", &json!({"script": format!("echo {text}")}));
    for served_by in ["executed", "cache", "cache"] {
        let event = producer.ask(ask("a")).await;
        assert_eq!((event.state(), event.served_by()), ("succeeded", served_by));
        world.settled().await;
    }
    std::fs::write(&file, policy("'('")).expect("a policy file");
    metric(&dispatcher, "jobquay_reloads_total", "result=\"refused\"", 1.0).await;
    let (status, text) = dispatcher.get("/readyz?verbose").expect("an answer");
    assert!(status == 200 && text.contains("[!]not used") && text.contains("policy `all`, templates"), "{text}");
    metric(&dispatcher, "jobquay_policy_unusable", "", 1.0).await;
    assert_eq!(producer.ask(ask("b")).await.state(), "succeeded");
    std::fs::write(&file, policy("other")).expect("a policy file");
    metric(&dispatcher, "jobquay_reloads_total", "result=\"loaded\"", 1.0).await;
    for text in ["c", "a", "a"] {
        assert_eq!(producer.ask(ask(text)).await.error("code"), &json!("policy.denied"), "{text}");
    }
    metric(&dispatcher, "jobquay_policy_unusable", "", 0.0).await;
}
