//! What happens to the cluster itself.

use std::collections::HashSet;
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams};
use serde_json::json;

use crate::crashes::{all_answers, assert_told_once};
use crate::support::stack::STACK;
use crate::support::{Event, Producer, Request, World, eventually};

/// Each of these keys twice.
async fn send(producer: &Producer, round: &str, keys: usize) -> HashSet<String> {
    let mut ids = HashSet::new();
    for number in 0..keys * 2 {
        let script = format!("sleep {}; echo {round} {}", number % 3, number % keys);
        ids.insert(producer.send(Request::template("script", &json!({"script": script}))).await);
    }
    ids
}

fn assert_succeeded_once(events: &[Event], owed: &HashSet<String>) {
    assert_told_once(events, owed);
    for event in events {
        assert_eq!(event.state(), "succeeded", "{}", event.body);
    }
}

/// Calls are given up before it goes on, and carried out all the same.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn an_etcd_that_stands_still_for_seconds_again_and_again_loses_nothing() {
    const ROUNDS: usize = 5;
    const KEYS: usize = 6;
    let world = World::alone("slow-etcd").await;
    let recorder = world.recorder();
    let settings = ["kubernetes.call_timeout=2s", "members.lease=30s"];
    let mut dispatcher = world.dispatcher_with(&settings).await;
    let mut producer = world.producer().await;
    let mut owed = HashSet::new();
    let begun = Instant::now();
    for round in 0..ROUNDS {
        // Some find it standing still, and some are overtaken by it.
        let (name, finds_it) = (format!("round-{round}"), round % 2 == 0);
        if !finds_it {
            owed.extend(send(&producer, &name, KEYS).await);
            world.pause(Duration::from_millis(400 * round as u64)).await;
        }
        let etcd = STACK.freeze("etcd");
        if finds_it {
            owed.extend(send(&producer, &name, KEYS).await);
        }
        world.pause(Duration::from_secs(4)).await;
        drop(etcd);
        world.pause(Duration::from_secs(1)).await;
    }
    let events = all_answers(&mut producer, &owed).await;
    let undecided = dispatcher.metric("jobquay_conflicts_total", "undecided");
    println!("{} answers after {:.1} s; {undecided} calls undecided", events.len(), begun.elapsed().as_secs_f64());
    assert!(undecided > 0.0, "no call was given up");
    assert_succeeded_once(&events, &owed);
    assert_eq!(recorder.jobs(), ROUNDS * KEYS, "each key has run once");
    assert!(!dispatcher.has_ended());
    recorder.assert_sound();
    world.settled().await;
}

/// Until it has loaded its namespaces and policies, it forbids everything.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn an_api_server_that_begins_while_its_etcd_stands_still_rejects_nobody() {
    let world = World::alone("begins").await;
    // It waits for its own readiness for 10 s before it says no.
    let dispatcher = world.dispatcher_with(&["kubernetes.call_timeout=20s"]).await;
    let mut producer = world.producer().await;
    let forbidden = || dispatcher.log().contains("not yet ready to handle request");
    for attempt in 0..3 {
        STACK.part("stop", "apiserver");
        let starting = tokio::task::spawn_blocking(|| STACK.part("start", "apiserver"));
        eventually("the API server listens", async || answers(&world).await.then_some(())).await;
        let etcd = STACK.freeze("etcd");
        let owed = send(&producer, &format!("attempt-{attempt}"), 2).await;
        let early = producer.event_within(Duration::from_secs(13)).await;
        drop(etcd);
        starting.await.expect("it starts");
        assert!(early.is_none(), "{:?}", early.map(|event| event.body));
        assert_succeeded_once(&all_answers(&mut producer, &owed).await, &owed);
        if forbidden() {
            break;
        }
        println!("it had loaded them before its etcd stood still; once more");
    }
    assert!(forbidden(), "it forbade nothing");
    dispatcher.ready().await;
    world.settled().await;
}

/// Whether the API server says anything at all.
async fn answers(world: &World) -> bool {
    let ping = http::Request::get("/livez/ping").body(Vec::new()).expect("a request");
    let answer = tokio::time::timeout(Duration::from_secs(1), world.client.request_text(ping)).await;
    answer.is_ok_and(|answer| answer.is_ok())
}

/// By the same authority, as a cluster does it every year.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn an_api_server_that_comes_back_with_another_certificate_is_trusted() {
    let world = World::alone("certificate").await;
    let recorder = world.recorder();
    let mut dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    let mut owed = send(&producer, "before", 3).await;
    reissue();
    STACK.part("stop", "apiserver");
    owed.extend(send(&producer, "during", 3).await);
    STACK.part("start", "apiserver");
    let events = all_answers(&mut producer, &owed).await;
    assert_succeeded_once(&events, &owed);
    assert_eq!(recorder.jobs(), 6, "each key has run once");
    assert!(!dispatcher.has_ended());
    dispatcher.ready().await;
    world.settled().await;
}

/// Signs another certificate for the API server's key.
fn reissue() {
    let file = |name: &str| STACK.dir.join("pki").join(name).display().to_string();
    let before = std::fs::read(file("apiserver.crt")).expect("a certificate");
    let names = "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n";
    std::fs::write(file("names"), names).expect("a file for its names");
    let signed = Command::new("openssl")
        .args(["x509", "-req", "-in", &file("apiserver.csr"), "-CA", &file("ca.crt"), "-CAkey", &file("ca.key")])
        .args(["-CAcreateserial", "-days", "30", "-extfile", &file("names"), "-out", &file("new")])
        .output()
        .expect("openssl can be run");
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    assert_ne!(std::fs::read(file("new")).expect("a certificate"), before);
    std::fs::rename(file("new"), file("apiserver.crt")).expect("the certificate in its place");
}

/// Its node was taken for lost, and is not: two of its pods run to their end. A pod that is deleted while it runs is
/// the other way to come by a second one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make test-faults"]
async fn a_pod_that_is_started_twice_gives_one_answer_which_is_that_of_the_one_that_counts() {
    let world = World::alone("twice").await;
    let recorder = world.recorder();
    let _dispatcher = world.dispatcher().await;
    let mut producer = world.producer().await;
    // The first goes on until then; the second comes later and has little to do.
    let until = |seconds: i64| {
        let end = jiff::Timestamp::now().as_second() + seconds;
        let script = format!("cat /proc/sys/kernel/random/uuid; while [ $(date +%s) -lt {end} ]; do sleep 1; done");
        Request::template("retried", &json!({"script": script}))
    };

    let killed = producer.send(until(20)).await;
    let first = world.running_pod().await;
    force_delete(&world, &first, false).await;
    assert_answered_by_the_second(&world, &mut producer, &killed, &first).await;

    let lost = producer.send(until(8)).await;
    let first = world.running_pod().await;
    let kubelet = STACK.freeze("kubelet");
    force_delete(&world, &first, true).await;
    eventually("another pod in its place", async || others_of(&world, &first).await.pop()).await;
    // The container of the first goes on to its end.
    world.pause(Duration::from_secs(8)).await;
    drop(kubelet);
    assert_answered_by_the_second(&world, &mut producer, &lost, &first).await;
    assert_eq!(recorder.jobs(), 2);
    recorder.assert_sound();
    world.settled().await;
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// The other pods of its Job.
async fn others_of(world: &World, first: &Pod) -> Vec<Pod> {
    let job = &first.metadata.labels.as_ref().expect("labels")["batch.kubernetes.io/job-name"];
    let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let pods = world.pods().list(&of_job).await.expect("a list of pods").items;
    pods.into_iter().filter(|pod| uid(pod) != uid(first)).collect()
}

/// What `kubectl delete --force` does; where its finalizers are taken off too, it is gone at once.
async fn force_delete(world: &World, pod: &Pod, with_finalizers: bool) {
    let name = pod.metadata.name.clone().expect("a name");
    if with_finalizers {
        let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        world.pods().patch(&name, &PatchParams::default(), &none).await.expect("a pod without finalizers");
    }
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    world.pods().delete(&name, &at_once).await.expect("it is deleted");
}

async fn assert_answered_by_the_second(world: &World, producer: &mut Producer, id: &str, first: &Pod) {
    let event = producer.event().await;
    assert_eq!((event.request_id(), event.state()), (id, "succeeded"), "{}", event.body);
    let others = others_of(world, first).await;
    let counts: Vec<_> = others.iter().filter(|pod| phase(pod) == "Succeeded").collect();
    assert_eq!(counts.len(), 1, "one pod has succeeded");
    let name = counts[0].metadata.name.as_deref().expect("a name");
    let log = world.pods().logs(name, &LogParams::default()).await.expect("its log");
    assert_eq!(event.result("text"), &json!(log));
    assert!(producer.event_within(Duration::from_secs(3)).await.is_none(), "told once");
}
