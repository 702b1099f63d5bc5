//! Names that come to lead elsewhere: the broker and Redis under other addresses.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use url::Url;

use crate::crashes::{all_answers, assert_agreement};
use crate::support::dispatcher::THIS_BUILD;
use crate::support::links::{Link, Links};
use crate::support::stack::STACK;
use crate::support::{Request, World};

const PARTS: [(Link, &str, &str); 2] =
    [(Link::RabbitMq, "rabbitmq.test", "amqp.url"), (Link::Redis, "redis.test", "cache.url")];

/// What one dispatcher takes for `/etc/hosts`, in a mount namespace of its own.
struct Hosts {
    file: PathBuf,
    /// Starts it there.
    program: PathBuf,
}

impl Hosts {
    fn new(world: &World) -> Self {
        let [file, program] = ["hosts", "sh"].map(|end| STACK.dir.join("log").join(format!("{}.{end}", world.name)));
        let hosts = Self { file, program };
        hosts.say("");
        let script = format!(
            "#!/bin/sh\nexec unshare --mount --propagation private sh -ec '\n  hosts=$1\n  shift\n  \
             mount --bind \"$hosts\" /etc/hosts\n  exec \"$@\"' sh '{}' '{THIS_BUILD}' \"$@\"\n",
            hosts.file.display()
        );
        std::fs::write(&hosts.program, script).expect("a script");
        std::fs::set_permissions(&hosts.program, PermissionsExt::from_mode(0o755)).expect("it can be run");
        hosts
    }

    /// All parts are at this address; at none, their names are unknown.
    fn say(&self, address: &str) {
        let names = PARTS.map(|(_, name, _)| format!("{address} {name}\n")).concat();
        let names = if address.is_empty() { "" } else { &names };
        // Into the same file, which is the one that is mounted.
        std::fs::write(&self.file, format!("127.0.0.1 localhost\n{names}")).expect("a hosts file");
    }

    fn program(&self) -> &Path {
        &self.program
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for file in [&self.file, &self.program] {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Each connection asks for the address anew, and a name that is unknown for a while is no end.
#[tokio::test(flavor = "multi_thread")]
async fn parts_that_come_back_under_another_address_are_found_by_their_names() {
    let world = World::new("addresses").await;
    let links = Links::start(&world).await;
    let hosts = Hosts::new(&world);
    hosts.say("127.0.0.1");
    let settings = PARTS.map(|(link, name, setting)| {
        let mut url: Url = links.url(link).parse().expect("a URL");
        url.set_host(Some(name)).expect("a name");
        format!("{setting}={url}")
    });
    let mut dispatcher = world.dispatcher_of(hosts.program(), &settings.each_ref().map(String::as_str)).await;
    let mut producer = world.producer().await;
    let script = |text: &str| Request::template("script", &json!({"script": text}));
    let first = producer.ask(script("echo known")).await;
    assert_eq!(first.served_by(), "executed");
    let mut owed = HashSet::from([producer.send(script("sleep 4; echo meanwhile")).await]);
    world.the_first_job().await;

    hosts.say("");
    for (link, ..) in PARTS {
        links.move_to(link, "127.0.0.2");
    }
    dispatcher.unready().await;
    owed.insert(producer.send(script("echo while nobody knows the name")).await);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!dispatcher.has_ended(), "an unknown name is waited for");
    hosts.say("127.0.0.2");

    let events = all_answers(&mut producer, &owed).await;
    assert_agreement(&events);
    assert!(events.iter().all(|event| event.state() == "succeeded"));
    dispatcher.ready().await;
    let again = producer.ask(script("echo known")).await;
    assert_eq!((again.served_by(), again.result("sha256")), ("cache", first.result("sha256")), "Redis is found too");
    world.settled().await;
}
