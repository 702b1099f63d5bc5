//! A verdict of ours on a Job is told, the dispatcher dies before it has let the Job go, and what the verdict rested on
//! changes: the next one tells the same. Needs a build with the feature `crash-points`.

use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use crate::cache_values::redis_script;
use crate::support::api_proxy::{ApiProxy, Calls, Fault};
use crate::support::{Request, World, eventually};

const DIES_ONCE_IT_HAS_TOLD: (&str, &str) = ("JOBQUAY_CRASH", "event-confirmed:1:abort");

/// Whoever has told that the Job was deleted dies, and then a Job controller comes to a verdict all the same. The one of
/// these tests lets go of the pods of a Job that goes, and never does: so that verdict is written here.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_told_to_be_deleted_stays_so_whatever_its_verdict_is_later() {
    let world = World::new("deleted-told").await;
    let mut struck = world.dispatcher_in(&[DIES_ONCE_IT_HAS_TOLD], &[]).await;
    let mut producer = world.producer().await;
    producer.send(Request::template("script", &json!({"script": "sleep 15; echo done"}))).await;
    let name = world.the_job().await.metadata.name.unwrap_or_default();
    world.running_pod().await;
    world.jobs().delete(&name, &DeleteParams::background()).await.expect("a delete");
    let told = producer.event().await;
    assert_eq!((told.state(), told.error("code")), ("failed", &json!("job.deleted")));
    struck.ended().await;
    eventually("the pod has succeeded", async || {
        let pods = world.pods().list(&ListParams::default()).await.expect("a list of pods").items;
        let phase = pods.first()?.status.as_ref()?.phase.clone();
        (phase.as_deref() == Some("Succeeded")).then_some(())
    })
    .await;
    let now = jiff::Timestamp::now();
    let met = json!({"type": "SuccessCriteriaMet", "status": "True", "lastProbeTime": now, "lastTransitionTime": now});
    let verdict = Patch::Merge(json!({"status": {"conditions": [met]}}));
    world.jobs().patch_status(&name, &PatchParams::default(), &verdict).await.expect("a verdict");
    let _next = world.dispatcher().await;
    assert_eq!(producer.event().await.verdict(), told.verdict());
    world.settled().await;
}

/// The node of its pod does not answer for longer than is waited, and then it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_was_told_to_be_unreadable_stays_so_when_it_can_be_read() {
    let world = World::new("unreadable-told").await;
    let proxy = ApiProxy::start(&world).await;
    let environment: Vec<_> = proxy.environment().into_iter().chain([DIES_ONCE_IT_HAS_TOLD]).collect();
    let mut struck = world.dispatcher_in(&environment, &["results.grace=3s"]).await;
    let mut producer = world.producer().await;
    proxy.fault(Calls::Logs, Fault::Says(500), 1000);
    producer.send(Request::template("script", &json!({"script": "echo readable"}))).await;
    let told = producer.event().await;
    assert_eq!((told.state(), told.error("code")), ("failed", &json!("result.unreadable")));
    struck.ended().await;
    let _next = world.dispatcher().await;
    let again = producer.event().await;
    assert_eq!((again.verdict(), again.error("message")), (told.verdict(), told.error("message")));
    world.settled().await;
}

/// No message holds it, and the cache does not take it; the next dispatcher's does.
#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_was_told_to_be_too_large_stays_so_when_there_is_room_for_it() {
    let world = World::new("too-large-told").await;
    let mut struck = world.dispatcher_in(&[DIES_ONCE_IT_HAS_TOLD], &["cache.max_value=1MiB"]).await;
    let mut producer = world.producer().await;
    let script = redis_script(r#"SETRANGE "'"$JOBQUAY_RESULT_KEY"'" 9437183 x\r\n"#);
    producer.send(Request::template("upload-huge", &json!({"script": script}))).await;
    let told = producer.event().await;
    assert_eq!((told.state(), told.error("code")), ("failed", &json!("result.too_large")));
    struck.ended().await;
    let _next = world.dispatcher().await;
    let again = producer.event().await;
    assert_eq!((again.verdict(), again.error("message")), (told.verdict(), told.error("message")));
    world.settled().await;
}
