//! The tests that a patch makes before it changes a Job, against the real API server.

use std::time::{Duration, Instant};

use jobquay::cluster::{Claim, Clients, Jobs, Origin, Placement, Released, Sighting, joiner};
use jobquay::domain::earlier::Earlier;
use jobquay::domain::job::{Ending, PodVerdict};
use jobquay::domain::key::{KeyParts, RequestKey};
use jobquay::domain::manifest::{CachePlan, Draft, JOB_FINALIZER, Plan};
use jobquay::domain::outcome::{FailureCode, Outcome, Payload};
use jobquay::domain::overdue::GivenUp;
use jobquay::domain::template::{AnswerAt, Limits, ResultPlan, ResultSource};
use jobquay::domain::waiter::Waiter;
use jobquay::telemetry::metrics::Metrics;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::{World, eventually};

const LIMIT: Duration = Duration::from_secs(10);

pub(crate) fn jobs(world: &World) -> Jobs {
    let clients = Clients {
        write: world.client.clone(),
        read: world.client.clone(),
        watch: world.client.clone(),
        namespace: world.name.clone(),
        namespaces: jobquay::domain::namespaces::Namespaces::default(),
        server: String::new(),
        time: jobquay::cluster::ServerTime::default(),
        origin: Origin::Kubeconfig,
    };
    let (joiner, joining) = joiner(&clients, LIMIT);
    tokio::spawn(joining);
    Jobs::new(clients, LIMIT, 8, joiner, Metrics::default())
}

/// A Job that never starts.
pub(crate) fn plan() -> Plan {
    let key = RequestKey::of(&KeyParts {
        tenant: "t",
        template: "t",
        digest: "",
        input: &json!(1),
        salt: None,
        request_id: None,
    });
    let containers = json!([{"name": "w", "image": "registry.local/worker:1"}]);
    Plan {
        key,
        lock: key,
        template: "t".into(),
        shown: "t".into(),
        job: Draft::Rendered(json!({"spec": {"suspend": true, "template": {"spec": {"containers": containers}}}})),
        result: ResultPlan { source: ResultSource::None, max: 0 },
        answer: AnswerAt::Job,
        cache: CachePlan { store: false, ttl_seconds: 0 },
        limits: Limits { start: LIMIT, image_pull: LIMIT, run: LIMIT },
        lane: "default".into(),
        in_flight: None,
        producer_in_flight: None,
        rate: None,
        labels: Vec::new(),
        namespace: String::new(),
        choices: Vec::new(),
        priority_class: None,
    }
}

/// A Job of which no controller takes care.
fn unmanaged() -> Draft {
    let containers = json!([{"name": "w", "image": "registry.local/worker:1"}]);
    Draft::Rendered(json!({"spec": {
        "suspend": true, "managedBy": "example.com/nobody", "template": {"spec": {"containers": containers}},
    }}))
}

pub(crate) fn waiter(id: &str) -> Waiter {
    serde_json::from_value(json!({"r": id, "q": "replies", "t": "1970-01-01T00:00:00Z"})).expect("a waiter")
}

pub(crate) async fn place(jobs: &Jobs, id: &str) -> Placement {
    place_again(jobs, id, Earlier::None).await
}

async fn place_again(jobs: &Jobs, id: &str, earlier: Earlier) -> Placement {
    place_with(jobs, id, earlier, None).await
}

async fn place_with(jobs: &Jobs, id: &str, earlier: Earlier, max_age: Option<Duration>) -> Placement {
    let waiter = waiter(id);
    let claim =
        Claim { waiter: &waiter, earlier, undecided: false, may_join: true, max_age, looked_up: Instant::now() };
    jobs.create_or_join(&Plan { namespace: jobs.namespace().to_owned(), ..plan() }, &claim).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_was_joined_since_it_was_read_is_not_released() {
    let world = World::new("release").await;
    let jobs = jobs(&world);
    assert!(matches!(place(&jobs, "one").await, Placement::Created { .. }));
    let read = jobs.get(&plan().name()).await.expect("an answer").expect("the Job");
    assert_eq!(place(&jobs, "two").await, Placement::Joined);
    let outcome = Outcome::Succeeded(Payload::none());
    assert_eq!(jobs.release(&read, &outcome.record()).await.expect("an answer"), Released::Outdated);
    let fresh = jobs.get(&plan().name()).await.expect("an answer").expect("the Job");
    assert_eq!(jobquay::domain::job::waiters(&fresh).0.len(), 2);
    assert_eq!(jobs.release(&fresh, &outcome.record()).await.expect("an answer"), Released::Released);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_our_finalizer_is_taken_off() {
    let world = World::new("finalizers").await;
    let jobs = jobs(&world);
    place(&jobs, "one").await;
    let add =
        Patch::Merge(json!({"metadata": {"finalizers": ["example.com/before", JOB_FINALIZER, "foregroundDeletion"]}}));
    world.jobs().patch(&plan().name(), &PatchParams::default(), &add).await.expect("a patch");
    assert_eq!(place(&jobs, "two").await, Placement::Joined, "wherever the finalizer stands in the list");
    let fresh = jobs.get(&plan().name()).await.expect("an answer").expect("the Job");
    jobs.release(&fresh, &Outcome::Succeeded(Payload::none()).record()).await.expect("an answer");
    let left = world.jobs().get(&plan().name()).await.expect("the Job").metadata.finalizers.unwrap_or_default();
    assert_eq!(left, ["example.com/before", "foregroundDeletion"]);
}

/// The race that would lose a reply: the Job is released between a joiner's look and its patch.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_joins_a_job_that_was_released_meanwhile() {
    let world = World::new("join-race").await;
    let jobs = jobs(&world);
    for round in 0..20 {
        let id = |role: &str| format!("{role}-{round}");
        let first = place(&jobs, &id("first")).await;
        assert!(matches!(first, Placement::Created { .. }), "round {round}");
        let read = jobs.get(&plan().name()).await.expect("an answer").expect("the Job");
        let outcome = Outcome::Succeeded(Payload::none());
        let record = outcome.record();
        let second_id = id("second");
        let (released, second) = tokio::join!(jobs.release(&read, &record), place(&jobs, &second_id));
        let job = jobs.get(&plan().name()).await.expect("an answer").expect("the Job");
        let owed = jobquay::domain::job::finalizer_index(&job).is_some();
        // Either the join came first and the release saw that it was outdated, or the release came first.
        match (released.expect("an answer"), &second) {
            (Released::Outdated, Placement::Joined) => assert!(owed, "round {round}: answers are owed"),
            (Released::Released, Placement::Ended { uid }) => assert_eq!(job.metadata.uid.as_ref(), Some(uid)),
            // It looked before the release and patched after it: it starts over, and finds it ended then.
            (Released::Released, Placement::Moved) => assert!(!owed, "round {round}: nobody was added"),
            other => panic!("round {round}: {other:?}"),
        }
        if owed {
            jobs.release(&job, &record).await.expect("an answer");
        }
        let uid = job.metadata.uid.unwrap_or_default();
        jobs.delete(&plan().name(), &uid).await.expect("a delete");
    }
}

/// The race that would swallow an answer: its Job has ended, and may have told the first of the two already.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_sent_again_does_not_rely_on_an_answer_that_is_on_its_way() {
    let world = World::new("sent-again").await;
    let jobs = jobs(&world);
    assert!(matches!(place(&jobs, "one").await, Placement::Created { .. }));
    assert_eq!(place(&jobs, "one").await, Placement::Joined, "while the Job lives, its end answers both");
    let given_up = json!({"code": "start.image", "reason": "ErrImagePull", "message": "no such image"}).to_string();
    let ended = Patch::Merge(json!({"metadata": {"annotations": {"jobquay.dev/given-up": given_up}}}));
    world.jobs().patch(&plan().name(), &PatchParams::default(), &ended).await.expect("a patch");
    assert_eq!(place(&jobs, "one").await, Placement::Moved);
    assert_eq!(
        place_again(&jobs, "one", Earlier::AnyTime).await,
        Placement::Joined,
        "a redelivery is the same request"
    );
    assert_eq!(place(&jobs, "two").await, Placement::Joined, "another joins until the Job is let go");
}

/// It owes an answer that cannot be told, and stands for as long.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_wants_nothing_old_does_not_join_a_job_that_has_ended_long_ago() {
    let world = World::new("old-job").await;
    let jobs = jobs(&world);
    // No controller is to add when it has seen that.
    let unmanaged = Plan { job: unmanaged(), namespace: world.name.clone(), ..plan() };
    let one = waiter("one");
    let claim = Claim {
        waiter: &one,
        earlier: Earlier::None,
        undecided: false,
        may_join: true,
        max_age: None,
        looked_up: Instant::now(),
    };
    jobs.create_or_join(&unmanaged, &claim).await.expect("an answer");
    let ended = jiff::Timestamp::now() - Duration::from_secs(3600);
    let met =
        json!({"type": "SuccessCriteriaMet", "status": "True", "lastProbeTime": ended, "lastTransitionTime": ended});
    let verdict = Patch::Merge(json!({"status": {"conditions": [met]}}));
    world.jobs().patch_status(&plan().name(), &PatchParams::default(), &verdict).await.expect("a verdict");
    let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
    assert_eq!(place_with(&jobs, "two", Earlier::None, minutes(59)).await, Placement::Moved);
    assert_eq!(place_with(&jobs, "two", Earlier::None, minutes(0)).await, Placement::Moved, "as with `refresh`");
    assert_eq!(place_with(&jobs, "two", Earlier::None, minutes(70)).await, Placement::Joined);
    assert_eq!(place(&jobs, "three").await, Placement::Joined);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_meant_for_an_earlier_job_spares_its_successor() {
    let world = World::new("delete-uid").await;
    let jobs = jobs(&world);
    place(&jobs, "one").await;
    jobs.delete(&plan().name(), "not-this-uid").await.expect("an answer");
    assert!(
        jobs.get(&plan().name()).await.expect("an answer").is_some_and(|job| job.metadata.deletion_timestamp.is_none())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_was_slow_since_its_lookup_does_not_create() {
    let world = World::new("too-slow").await;
    let jobs = jobs(&world);
    let waiter = waiter("one");
    let looked_up = Instant::now().checked_sub(Duration::from_secs(6)).expect("the machine has been up for that long");
    let claim =
        Claim { waiter: &waiter, earlier: Earlier::None, undecided: false, may_join: true, max_age: None, looked_up };
    assert_eq!(
        jobs.create_or_join(&Plan { namespace: jobs.namespace().to_owned(), ..plan() }, &claim)
            .await
            .expect("an answer"),
        Placement::TooSlow
    );
    assert!(world.all_jobs().await.is_empty());
}

/// As the watch over slow Jobs does it: read anew until it is recorded or the Job has a verdict. The Job controller
/// writes to a new Job as well, so one that was read once may have changed since.
async fn give_up(jobs: &Jobs, given_up: &GivenUp) -> bool {
    loop {
        let read = jobs.get(&plan().name()).await.expect("an answer").expect("the Job");
        if jobquay::domain::job::ending(&read).is_some() {
            return false;
        }
        if jobs.give_up(&read, given_up).await.expect("an answer") {
            return true;
        }
    }
}

/// Both are recorded on a Job without a verdict; the other then finds that it has one.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_success_that_is_told_early_and_a_giving_up_only_the_first_counts() {
    let world = World::new("first-verdict").await;
    let jobs = jobs(&world);
    let verdict = PodVerdict { pod: "p".into(), at: jiff::Timestamp::UNIX_EPOCH };
    let given_up = GivenUp { code: FailureCode::JobDeadline, message: "m".into(), reason: "r".into() };
    for success_first in [true, false] {
        place(&jobs, "one").await;
        let read = jobs.get(&plan().name()).await.expect("an answer").expect("the Job");
        let sighting = Sighting {
            namespace: world.name.clone(),
            name: plan().name(),
            uid: read.metadata.uid.clone().expect("a uid"),
            shard: 0,
        };
        let (mut succeeded, mut gave_up) = (false, false);
        if success_first {
            succeeded = jobs.succeed(&sighting, &verdict).await.expect("an answer");
        }
        gave_up |= give_up(&jobs, &given_up).await;
        succeeded |= jobs.succeed(&sighting, &verdict).await.expect("an answer");
        assert_eq!((succeeded, gave_up), (success_first, !success_first));
        let fresh = jobs.get(&plan().name()).await.expect("an answer").expect("the Job");
        assert_eq!(jobquay::domain::job::ending(&fresh) == Some(Ending::Succeeded), success_first);
        jobs.release(&fresh, &Outcome::Succeeded(Payload::none()).record()).await.expect("an answer");
        assert!(!jobs.succeed(&sighting, &verdict).await.expect("an answer"), "nothing is owed any more");
        jobs.delete(&plan().name(), &sighting.uid).await.expect("an answer");
        eventually("it is gone", async || world.all_jobs().await.is_empty().then_some(())).await;
    }
}
