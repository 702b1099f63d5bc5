//! Who may ask for what, by the name that the broker has checked; and how few rights are enough.

use serde_json::json;

use crate::support::{Producer, Request, World};

const POLICY: &str = r"
policies:
- name: media
  users: [media-.*]
  templates: [script]
  reply_to: ['replies\..*']
";

#[tokio::test(flavor = "multi_thread")]
async fn policy_is_chosen_by_the_user_that_the_broker_has_checked() {
    let world = World::new("policy").await;
    let file = crate::support::stack::STACK.dir.join(format!("{}.yaml", world.name));
    std::fs::write(&file, POLICY).expect("a policy file");
    let _dispatcher = world.dispatcher_with(&[&format!("policy.file={}", file.display())]).await;
    let user = format!("media-{}", world.name);
    world.broker.set_permissions(&user, "secret", ".*", ".*");
    let mut anonymous = world.producer().await;
    let url = world.broker.url().replace("guest:guest", &format!("{user}:secret"));
    let request = |template: &str| Request::template(template, &json!({"script": "echo x"}));
    let denied = anonymous.send(request("script")).await;
    assert!(
        anonymous.event_within(std::time::Duration::from_secs(1)).await.is_none(),
        "an address that no policy allows gets nothing: {denied}"
    );

    let replies = anonymous.replies.clone();
    // Two consumers of one queue would share its events.
    drop(anonymous);
    let mut media = Producer::connect_without_queue(&url, &replies).await;
    let named = |template: &str| Request { user_id: Some(user.clone()), ..request(template) };
    assert_eq!(media.ask(named("script")).await.state(), "succeeded");
    let event = media.ask(named("unshared")).await;
    assert_eq!((event.state(), event.error("code")), ("rejected", &json!("policy.denied")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_needs_no_more_than_the_rights_in_its_manual() {
    let world = World::new("rights").await;
    for queue in ["jobquay.requests", "jobquay.dead", "jobquay.undeliverable"] {
        world.broker.declare(queue, &json!({"x-queue-type": "quorum"}));
    }
    let user = format!("dispatcher-{}", world.name);
    world.broker.set_permissions(&user, "secret", r"^amq\.default$", r"^jobquay\.requests$");
    let url = world.broker.url().replace("guest:guest", &format!("{user}:secret"));
    let _dispatcher = world.dispatcher_with(&[&format!("amqp.url={url}"), "amqp.topology=check"]).await;
    let mut producer = world.producer().await;
    assert_eq!(producer.ask(Request::template("script", &json!({"script": "echo x"}))).await.state(), "succeeded");
}
