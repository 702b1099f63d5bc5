//! Who may ask for what, by the name that the broker has checked; and how few rights are enough.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};

use crate::support::stack::STACK;
use crate::support::{Dispatcher, Producer, Request, World};

const CHOOSING: &str = r#"
name: choosing
parameters:
  type: object
  properties:
    secret: {type: string, default: seed-credentials}
    account: {type: string, default: reader}
job:
  apiVersion: batch/v1
  kind: Job
  spec:
    backoffLimit: 0
    template:
      spec:
        serviceAccountName: "{{ params.account }}"
        automountServiceAccountToken: false
        containers:
        - name: worker
          image: registry.local/worker:1
          imagePullPolicy: IfNotPresent
          command: [sh, -c, "cat /s/key.json"]
          volumeMounts: [{name: s, mountPath: /s}]
        volumes: [{name: s, secret: {secretName: "{{ params.secret }}"}}]
"#;

/// Two users with the rights of a producer on the broker, and a policy for each.
struct Users {
    media: Producer,
    plain: Producer,
    names: [String; 2],
}

async fn users(world: &World, policies: &str) -> (Dispatcher, Users) {
    let dir = STACK.dir.join(format!("{}-templates", world.name));
    std::fs::create_dir_all(&dir).expect("a directory");
    std::fs::write(dir.join("choosing.yaml"), CHOOSING).expect("a template");
    let fixed = CHOOSING
        .replace("name: choosing", "name: fixed")
        .replace("\"{{ params.secret }}\"", "seed-credentials")
        .replace("\"{{ params.account }}\"", "reader");
    std::fs::write(dir.join("fixed.yaml"), fixed).expect("a template");
    let file = STACK.dir.join(format!("{}.yaml", world.name));
    std::fs::write(&file, policies).expect("a policy file");
    let settings = [format!("policy.file={}", file.display()), format!("templates.dir={}", dir.display())];
    let dispatcher = world.dispatcher_with(&settings.each_ref().map(String::as_str)).await;
    let names = ["media", "plain"].map(|name| format!("{name}-{}", world.name));
    let mut producers = Vec::new();
    for name in &names {
        let queue = format!("replies.{name}");
        world.broker.declare(&queue, &json!({}));
        world.broker.set_permissions(name, "secret", r"^amq\.default$", &format!("^{}$", queue.replace('.', r"\.")));
        let url = world.broker.url().replace("guest:guest", &format!("{name}:secret"));
        producers.push(Producer::connect_without_queue(&url, &queue).await);
    }
    let plain = producers.pop().expect("two");
    let media = producers.pop().expect("two");
    (dispatcher, Users { media, plain, names })
}

fn refusal(event: &crate::support::Event) -> (&str, &Value, &Value) {
    (event.state(), event.error("code"), event.error("pointer"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_policy_allows_one_user_and_denies_another() {
    let world = World::new("policy").await;
    let class = format!("low-{}", world.name);
    let policies = format!(
        r"
policies:
- name: media
  users: [media-.*]
  templates: [choosing, fixed]
  inline: {{images: ['registry\.local/worker:1']}}
  secrets: [seed-.*]
  service_accounts: [reader]
  reply_to: ['replies\.media-.*']
  priority_class: {class}
- name: plain
  users: [plain-.*]
  templates: [fixed]
  reply_to: ['replies\.plain-.*']
"
    );
    let classes = Api::<PriorityClass>::all(world.client.clone());
    let low = json!({"metadata": {"name": class}, "value": -7});
    classes.create(&PostParams::default(), &serde_json::from_value(low).expect("a class")).await.expect("a class");
    let reader: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "reader"}})).expect("an account");
    let accounts = Api::<ServiceAccount>::namespaced(world.client.clone(), &world.name);
    accounts.create(&PostParams::default(), &reader).await.expect("an account");

    let (_dispatcher, mut users) = users(&world, &policies).await;
    let [media, plain] = users.names.clone();
    let of = |user: &str, request: Request| Request { user_id: Some(user.to_owned()), ..request };
    let choosing = |params: &Value| Request::template("choosing", params);
    let fixed = || Request::template("fixed", &json!({}));
    let inline = |image: &str, secret: &str| {
        let secret = json!({"name": secret, "mount": "/s"});
        Request::json(&json!({"job": {"name": "n", "image": image, "command": ["true"], "secret": secret}}))
    };
    let denied = |pointer: &str| ("rejected", json!("policy.denied"), json!(pointer));

    let event = users.media.ask(of(&media, choosing(&json!({})))).await;
    assert_eq!(event.state(), "succeeded", "{}", event.data());
    let job = world.jobs().get(event.data()["job"]["name"].as_str().expect("a name")).await.expect("the Job");
    let pod = job.spec.and_then(|spec| spec.template.spec).expect("a pod");
    assert_eq!(pod.priority_class_name, Some(class.clone()));
    for (request, pointer) in [
        (choosing(&json!({"secret": "other"})), "/params/secret"),
        (choosing(&json!({"account": "default"})), "/params/account"),
        (Request::template("script", &json!({"script": "x"})), "/template"),
        (inline("registry.local/worker:2", "seed-credentials"), "/job/image"),
        (inline("registry.local/worker:1", "other"), "/job/secret/name"),
    ] {
        let event = users.media.ask(of(&media, request)).await;
        let (state, code, at) = denied(pointer);
        assert_eq!(refusal(&event), (state, &code, &at));
    }
    assert_eq!(
        users.media.ask(of(&media, inline("registry.local/worker:1", "seed-credentials"))).await.state(),
        "succeeded"
    );

    let event = users.plain.ask(of(&plain, fixed())).await;
    assert_eq!(event.state(), "succeeded", "what the template says itself needs no leave: {}", event.data());
    for (request, pointer) in
        [(choosing(&json!({})), "/template"), (inline("registry.local/worker:1", "seed-credentials"), "/job/image")]
    {
        let event = users.plain.ask(of(&plain, request)).await;
        let (state, code, at) = denied(pointer);
        assert_eq!(refusal(&event), (state, &code, &at));
    }
    // Nobody is told of a refused address, and least of all its owner.
    let to_the_other = Request { reply_to: Some(users.media.replies.clone()), ..fixed() };
    users.plain.send(of(&plain, to_the_other)).await;
    users.plain.send(fixed()).await;
    for producer in [&mut users.media, &mut users.plain] {
        assert!(producer.event_within(std::time::Duration::from_secs(1)).await.is_none());
    }
    let dead = world.broker.drain("jobquay.dead");
    let codes: Vec<_> = dead.iter().map(|message| &message["properties"]["headers"]["jobquay-code"]).collect();
    assert_eq!(codes, ["reply_to.denied", "reply_to.denied"], "one address, and one message without a user");
    classes.delete(&class, &DeleteParams::default()).await.expect("it goes");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_refuses_a_forged_user_id() {
    let world = World::new("forged").await;
    world.broker.declare("jobquay.requests", &json!({"x-queue-type": "quorum"}));
    let user = format!("plain-{}", world.name);
    world.broker.set_permissions(&user, "secret", r"^amq\.default$", "^$");
    let url = world.broker.url().replace("guest:guest", &format!("{user}:secret"));
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.expect("a connection");
    let publish = async |name: &str| {
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let properties = BasicProperties::default().with_user_id(name.into());
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        channel.basic_publish("".into(), "jobquay.requests".into(), options, b"{}", properties).await?.await
    };
    assert!(publish(&user).await.expect("a confirm").is_ack());
    let forged = publish("media-1").await.expect_err("must be refused").to_string();
    assert!(forged.contains("PRECONDITION_FAILED") && forged.contains("user_id"), "{forged}");
    assert_eq!(world.broker.drain("jobquay.requests").len(), 1, "the forged one never came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_needs_no_more_than_the_rights_in_its_manual() {
    let world = World::new("rights").await;
    let lanes = ["jobquay.pending.default", "jobquay.pending.bulk"];
    for queue in ["jobquay.requests", "jobquay.dead", "jobquay.undeliverable"].into_iter().chain(lanes) {
        world.broker.declare(queue, &json!({"x-queue-type": "quorum"}));
    }
    let user = format!("dispatcher-{}", world.name);
    world.broker.set_permissions(&user, "secret", r"^amq\.default$", r"^jobquay\.(requests|poison|pending\..*)$");
    let url = world.broker.url().replace("guest:guest", &format!("{user}:secret"));
    let _dispatcher = world.dispatcher_with(&[&format!("amqp.url={url}"), "amqp.topology=check"]).await;
    let mut producer = world.producer().await;
    assert_eq!(producer.ask(Request::template("script", &json!({"script": "echo x"}))).await.state(), "succeeded");
}
