//! `jobquay dead`: what was set aside, seen and sent again.

use serde_json::{Value, json};

use crate::command_line::{err, out, run};
use crate::support::{Request, World, eventually};

async fn list(world: &World, queue: &str) -> Vec<Value> {
    let listed = run(world, &["dead", "ls", "--queue", queue, "-o", "json"], "").await;
    assert_eq!(listed.status.code(), Some(0), "{}", err(&listed));
    serde_json::from_str(&out(&listed)).expect("an array")
}

async fn listed(world: &World, queue: &str, count: usize) -> Vec<Value> {
    eventually("messages that were set aside", async || {
        let found = list(world, queue).await;
        (found.len() == count).then_some(found)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_request_is_listed_shown_and_sent_again_as_it_was() {
    let world = World::new("dead-cli").await;
    let policy = crate::support::stack::STACK.dir.join(format!("{}.yaml", world.name));
    let deny = "policies: [{name: nobody, users: ['nobody'], templates: ['.*'], reply_to: ['.*']}]\n";
    std::fs::write(&policy, deny).expect("a policy file");
    let mut dispatcher = world.dispatcher_with(&[&format!("policy.file={}", policy.display())]).await;
    let mut producer = world.producer().await;
    let good = json!({"template": "script", "params": {"script": "echo again"}});
    let asked = Request { user_id: Some("guest".into()), ..Request::json(&good) };
    producer.send(Request { correlation_id: Some("c-\u{1b}[31m".into()), ..asked }.id("dead-1")).await;
    producer.send(Request { body: b"\x1b[2J\xff".to_vec(), no_reply: true, ..Request::default() }.id("dead-2")).await;

    let found = listed(&world, "dead", 2).await;
    let first = found.iter().find(|line| line["id"] == "dead-1").expect("it is there");
    assert_eq!((&first["code"], &first["reply_to"]), (&json!("reply_to.denied"), &json!(producer.replies)));
    assert_eq!(first["bytes"], good.to_string().len());
    assert!(first["time"].as_str().is_some_and(|time| time.ends_with('Z')));
    let table = out(&run(&world, &["dead", "ls"], "").await);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.lines().any(|line| line.starts_with("dead-2 ") && line.contains("request.malformed")), "{table}");

    let shown = run(&world, &["dead", "show", "dead-1"], "").await;
    let text = out(&shown);
    assert!(text.contains("header jobquay-user-id: guest") && text.contains(&good.to_string()), "{text}");
    assert!(text.contains("correlation_id: c-\\u{1b}[31m") && !text.contains('\u{1b}'), "{text}");
    assert!(!out(&run(&world, &["dead", "show", "dead-2"], "").await).contains('\u{1b}'));
    let shown: Value = serde_json::from_str(&out(&run(&world, &["dead", "show", "dead-2", "-o", "json"], "").await))
        .expect("a message");
    assert_eq!(shown["body_base64"], "G1sySv8=");
    assert_eq!(listed(&world, "dead", 2).await.len(), 2, "looking takes nothing off");

    dispatcher.kill();
    let _dispatcher = world.dispatcher().await;
    let sent = run(&world, &["dead", "requeue", "dead-1"], "").await;
    assert_eq!(sent.status.code(), Some(0), "{}", err(&sent));
    let event = producer.event().await;
    assert_eq!((event.state(), event.request_id()), ("succeeded", "dead-1"));
    assert_eq!(event.correlation_id.as_deref(), Some("c-\u{1b}[31m"));
    assert_eq!(list(&world, "dead").await.len(), 1, "it alone was taken off");

    // The other is no better than before and comes back, with its headers once.
    let sent = run(&world, &["dead", "requeue", "--all", "-o", "json"], "").await;
    let report: Value = serde_json::from_str(&out(&sent)).expect("a report");
    assert_eq!(report, json!({"requeued": [{"id": "dead-2", "to": "jobquay.requests"}], "kept": 0}));
    let back = listed(&world, "dead", 1).await;
    assert_eq!((&back[0]["id"], &back[0]["code"]), (&json!("dead-2"), &json!("request.malformed")));

    for (arguments, code) in
        [(&["dead", "show", "nobody"][..], 1), (&["dead", "requeue", "nobody"], 1), (&["dead", "requeue"], 2)]
    {
        assert_eq!(run(&world, arguments, "").await.status.code(), Some(code), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undeliverable_answer_stays_until_its_reply_queue_is_there() {
    let world = World::new("undeliverable-cli").await;
    let _dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    producer.send(Request { reply_to: Some("late".into()), ..Request::json(&json!([])) }.id("late-1")).await;
    let found = listed(&world, "undeliverable", 1).await;
    assert_eq!((&found[0]["reply_to"], &found[0]["reason"]), (&json!("late"), &json!("NO_ROUTE")));

    let kept = run(&world, &["dead", "requeue", "--all", "--queue", "undeliverable"], "").await;
    assert_eq!(kept.status.code(), Some(1));
    assert!(err(&kept).contains("no queue late takes it"), "{}", err(&kept));
    assert_eq!(list(&world, "undeliverable").await.len(), 1);

    world.broker.declare("late", &json!({}));
    let id = found[0]["id"].as_str().expect("an id");
    let sent = run(&world, &["dead", "requeue", id, "--queue", "undeliverable"], "").await;
    assert_eq!(sent.status.code(), Some(0), "{}", err(&sent));
    assert!(list(&world, "undeliverable").await.is_empty());
    let delivered = world.broker.drain("late");
    assert_eq!((delivered.len(), delivered[0]["properties"]["message_id"].as_str()), (1, Some(id)));
    let headers = &delivered[0]["properties"]["headers"];
    assert!(headers.as_object().is_none_or(serde_json::Map::is_empty), "{headers}");
    assert_eq!(delivered[0]["properties"]["type"], "dev.jobquay.job.rejected.v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requeue_killed_at_any_moment_loses_nothing() {
    let world = World::new("dead-killed").await;
    let dispatcher = world.dispatcher().await;
    let producer = world.producer().await;
    for number in 0..200 {
        let request = Request { body: b"{".to_vec(), no_reply: true, ..Request::default() };
        producer.send(request.id(&format!("dead-{number}"))).await;
    }
    listed(&world, "dead", 200).await;
    drop(dispatcher);
    for milliseconds in [20, 60, 100, 150, 220] {
        let mut command = crate::support::dispatcher::jobquay(&world);
        let mut child =
            command.args(["dead", "requeue", "--all"]).stderr(std::process::Stdio::null()).spawn().expect("it starts");
        world.pause(std::time::Duration::from_millis(milliseconds)).await;
        child.kill().expect("it is killed");
        child.wait().expect("it has ended");
    }
    // The broker notices an ended connection at once, and gives back what it held.
    let mut found = std::collections::BTreeSet::new();
    eventually("all of them, here or there", async || {
        for queue in ["jobquay.dead", "jobquay.requests"] {
            let ids = producer.take_all(queue).await;
            found.extend(
                ids.iter().filter_map(|message| message.properties.message_id().as_ref().map(ToString::to_string)),
            );
        }
        (found.len() == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_queue_it_says_so() {
    let world = World::new("dead-no-queue").await;
    let output = run(&world, &["dead", "ls"], "").await;
    assert_eq!(output.status.code(), Some(3));
    assert!(err(&output).contains("there is no queue jobquay.dead"), "{}", err(&output));
}
