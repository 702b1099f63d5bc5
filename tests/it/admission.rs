//! What the API server's admission says against our calls: for good, or for now.

use std::collections::HashSet;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::crashes::{all_answers, assert_agreement};
use crate::support::admission::Denial;
use crate::support::identity::Identity;
use crate::support::stack::STACK;
use crate::support::{Request, World, eventually};

fn script(text: &str) -> Request {
    Request::template("script", &json!({"script": text}))
}

fn rule(group: &str, resource: &str, operation: &str) -> Value {
    json!({"apiGroups": [group], "apiVersions": ["*"], "operations": [operation], "resources": [resource]})
}

/// Waits until the API server would take a Job, or would not.
async fn until_jobs_are_taken(world: &World, taken: bool) {
    let container = json!({"name": "w", "image": "w"});
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "trial"},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }))
    .expect("a Job");
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    eventually(&format!("Jobs are taken: {taken}"), async || {
        (world.jobs().create(&dry_run, &job).await.is_ok() == taken).then_some(())
    })
    .await;
}

/// Whatever the reason is that the policy gives, which decides the status code.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_a_policy_denies_is_rejected_in_its_words_and_runs_when_the_policy_is_gone() {
    let world = World::new("denied").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    for (reason, code) in [(None, "422"), (Some("Forbidden"), "403"), (Some("RequestEntityTooLarge"), "413")] {
        let words = format!("no Jobs with {code} today");
        let denial = Denial::start(&world, &json!([rule("batch", "jobs", "CREATE")]), reason, &words);
        until_jobs_are_taken(&world, false).await;
        let request = script(&format!("echo ran {code}")).id(&format!("asked-twice-{code}"));
        let event = producer.ask(request.clone()).await;
        assert_eq!((event.state(), event.error("code")), ("rejected", &json!("cluster.denied")), "{}", event.body);
        assert!(event.error("message").as_str().is_some_and(|message| message.contains(&words)), "{}", event.body);
        drop(denial);
        until_jobs_are_taken(&world, true).await;
        let event = producer.ask(request).await;
        assert_eq!((event.state(), event.served_by()), ("succeeded", "executed"), "{}", event.body);
        assert_eq!(event.result("text"), &json!(format!("ran {code}\n")));
    }
    dispatcher.ready().await;
    world.settled().await;
}

/// Its templates were refused when it began, and nobody has touched their files since.
#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_that_begins_under_a_policy_runs_its_templates_when_the_policy_is_gone() {
    let world = World::new("begins-denied").await;
    let denial = Denial::start(&world, &json!([rule("batch", "jobs", "CREATE")]), None, "no Jobs today");
    until_jobs_are_taken(&world, false).await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    // All of its parameters have defaults, so that the trial says what a request would be told.
    let request = || Request::template("starts", &json!({}));
    assert_eq!(producer.ask(request()).await.error("code"), &json!("template.unknown"));
    drop(denial);
    dispatcher.says("takes a template that it refused before").await;
    eventually("no template is refused", async || {
        (dispatcher.metric("jobquay_templates_unusable", "") == 0.0).then_some(())
    })
    .await;
    let event = producer.ask(request()).await;
    assert_eq!((event.state(), event.served_by()), ("succeeded", "executed"), "{}", event.body);
    world.settled().await;
}

/// A member that cannot renew its Lease must not take itself for one whose work others do.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_denies_leases_keeps_no_answer_back() {
    let world = World::new("denied-leases").await;
    let identity = Identity::create(&world);
    let dispatcher = world.dispatcher_in(&identity.environment(), &[]).await;
    let mut producer = world.producer().await;
    let leases = json!([rule("coordination.k8s.io", "leases", "UPDATE")]);
    let _denial = Denial::of_user(&world, &leases, &identity.user());
    dispatcher.says("cannot renew the Lease of this member").await;
    // Longer than its lease.
    world.pause(Duration::from_secs(8)).await;
    producer.send(script("echo alone")).await;
    let event = producer.event_within(Duration::from_secs(30)).await.expect("an answer without a Lease");
    assert_eq!(event.result("text"), &json!("alone\n"));
}

/// Jobs can be made, and neither joined nor let go.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_denies_patches_for_a_while_loses_nothing() {
    let world = World::new("denied-patches").await;
    let recorder = world.recorder();
    let identity = Identity::create(&world);
    let dispatcher = world.dispatcher_in(&identity.environment(), &[]).await;
    let mut producer = world.producer().await;
    let mut owed = HashSet::from([producer.send(script("sleep 8; echo shared")).await]);
    world.the_job().await;
    let patches = [("batch", "jobs"), ("", "pods"), ("coordination.k8s.io", "leases")];
    let patches: Vec<_> = patches.into_iter().map(|(group, resource)| rule(group, resource, "UPDATE")).collect();
    let denial = Denial::of_user(&world, &json!(patches), &identity.user());
    dispatcher.says("denied request").await;
    for text in ["sleep 8; echo shared", "echo quick", "echo quick", "exit 3"] {
        owed.insert(producer.send(script(text)).await);
    }
    dispatcher.says("a patch to join did not apply").await;
    dispatcher.says("cannot release a Job").await;
    let mut events = Vec::new();
    while let Some(event) = producer.event_within(Duration::from_secs(12)).await {
        events.push(event);
    }
    println!("{} of {} were answered meanwhile", events.len(), owed.len());
    drop(denial);
    let answered: HashSet<_> = events.iter().map(|event| event.request_id().to_owned()).collect();
    events.extend(all_answers(&mut producer, &owed.difference(&answered).cloned().collect()).await);
    assert_agreement(&events);
    assert_eq!(events.len(), owed.len(), "nobody is told twice");
    assert_eq!(events.iter().filter(|event| event.state() == "succeeded").count(), 4);
    assert_eq!(events.iter().filter(|event| event.error("code") == "job.failed").count(), 1);
    assert_eq!(recorder.jobs(), 3, "each key has run once");
    recorder.assert_sound();
    world.settled().await;
}

/// A quota that was not accounted for yet refuses everything, and only until it is.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn a_quota_that_nobody_has_accounted_for_yet_is_waited_for() {
    let world = World::alone("unaccounted").await;
    let dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let hard = json!({"count/jobs.batch": "5"});
    let controllers = STACK.freeze("controllers");
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "some"}, "spec": {"hard": hard},
    });
    let here = ["-n", &world.name];
    STACK.kubectl(&[&here[..], &["create", "-f", "-"]].concat(), &quota.to_string());
    let unaccounted = json!({"status": {"hard": hard}}).to_string();
    let patch = ["patch", "resourcequota", "some", "--subresource=status", "--type=merge", "-p", &unaccounted];
    STACK.kubectl(&[&here[..], &patch].concat(), "");
    until_jobs_are_taken(&world, false).await;
    producer.send(script("echo accounted")).await;
    dispatcher.says("status unknown for quota").await;
    drop(controllers);
    let event = producer.event().await;
    assert_eq!((event.state(), event.result("text")), ("succeeded", &json!("accounted\n")), "{}", event.body);
    world.settled().await;
}
