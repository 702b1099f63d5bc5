use jiff::Timestamp;

use super::*;
use crate::domain::key::KeyParts;
use crate::domain::request::SecretMount;

fn defaults() -> InlineDefaults {
    InlineDefaults {
        backoff_limit: 3,
        ttl: Duration::from_secs(60),
        image_pull_policy: "Always".into(),
        labels: BTreeMap::from([("app".into(), "sample".into())]),
        credentials_variable: "GOOGLE_APPLICATION_CREDENTIALS".into(),
        credentials_file: "key.json".into(),
        run_as_user: 10_001,
    }
}

fn seed_job() -> InlineJob {
    InlineJob {
        name: "nightly-query".into(),
        image: "registry.local/worker:1".into(),
        command: Vec::new(),
        args: vec!["--day".into(), "$(DAY)".into()],
        env: vec![("K".into(), "v".into())],
        secret: Some(SecretMount { name: "gcp-key".into(), mount: "/var/secrets/google".into() }),
        cpu: Some("500m".into()),
        memory: None,
    }
}

fn plan(source: ResultSource) -> Plan {
    let job = seed_job();
    let key = RequestKey::of(&KeyParts {
        tenant: "default",
        template: "inline",
        digest: "",
        input: &job.normalised(),
        salt: None,
        request_id: None,
    });
    Plan {
        key,
        lock: key,
        template: "inline".into(),
        shown: job.name.clone(),
        job: Draft::Rendered(inline(&job, &defaults())),
        result: ResultPlan { source, max: 1024 },
        answer: AnswerAt::Job,
        cache: CachePlan { store: true, ttl_seconds: 3600 },
        limits: Limits {
            start: Duration::from_secs(300),
            image_pull: Duration::from_secs(120),
            run: Duration::from_secs(3600),
        },
        lane: "default".into(),
        in_flight: None,
        producer_in_flight: None,
        rate: None,
        labels: vec![
            ("team".into(), "media".into()),
            ("app".into(), "payments".into()),
            ("jobquay.dev/open".into(), "false".into()),
        ],
        namespace: "work".into(),
        choices: Vec::new(),
        priority_class: None,
    }
}

fn waiter() -> Waiter {
    Waiter {
        reply_to: Some("replies".into()),
        correlation_id: Some("c-1".into()),
        created_job: true,
        ..Waiter::new("r-1", Timestamp::UNIX_EPOCH)
    }
}

#[test]
fn a_job_says_that_its_pods_success_is_told_only_where_it_is() {
    let answer = |at| {
        let job = Plan { answer: at, ..plan(ResultSource::Stdout) }.manifest(&waiter()).unwrap();
        (crate::domain::job::answers_at_pod(&job), job.metadata.annotations.unwrap().contains_key("jobquay.dev/answer"))
    };
    assert_eq!([AnswerAt::Job, AnswerAt::Pod].map(answer), [(false, false), (true, true)]);
}

#[test]
fn the_seed_job_is_pinned() {
    let job = plan(ResultSource::Auto).manifest(&waiter()).unwrap();
    let actual = serde_json::to_string_pretty(&job).unwrap() + "\n";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/inline-job.json");
    if std::env::var_os("JOBQUAY_PIN").is_some() {
        std::fs::write(path, &actual).unwrap();
    }
    assert_eq!(actual, std::fs::read_to_string(path).unwrap(), "run with JOBQUAY_PIN=1 to accept");
}

#[test]
fn names_are_one_per_key_and_fit() {
    let plan = plan(ResultSource::Auto);
    assert_eq!(plan.name(), format!("jq-nightly-query-{}", plan.key.base32()));
    let long = Plan { shown: "a-very-long-name-x-and-more".into(), ..plan };
    assert!(long.name().starts_with("jq-a-very-long-name-x-"), "{}", long.name());
    assert!(long.name().len() <= 48);
}

#[test]
fn own_labels_win_and_the_pod_is_held_only_where_it_is_the_source() {
    let job = plan(ResultSource::Stdout).manifest(&waiter()).unwrap();
    assert_eq!(job.metadata.labels.as_ref().unwrap()[OPEN], "true");
    assert_eq!(job.metadata.labels.as_ref().unwrap()["team"], "media");
    assert_eq!(job.metadata.labels.as_ref().unwrap()["app"], "sample", "the operator's");
    let pod = job.spec.as_ref().unwrap().template.metadata.as_ref().unwrap().labels.as_ref().unwrap();
    assert!(!pod.contains_key("team"), "a request selects no pods");
    let held = |job: &Job| job.spec.as_ref().unwrap().template.metadata.as_ref().unwrap().finalizers.clone();
    assert_eq!(held(&job), Some(vec![POD_FINALIZER.to_owned()]));
    assert_eq!(held(&plan(ResultSource::None).manifest(&waiter()).unwrap()), None);
}

#[test]
fn what_a_template_brings_along_under_our_names_is_left_out() {
    let brought =
        json!({"jobquay.dev/succeeded": "{}", "jobquay.dev/w.0123456789abcdef": "{}", "example.com/a": "kept"});
    let mut template = inline(&seed_job(), &defaults());
    template["metadata"]["annotations"] = brought.clone();
    template["spec"]["template"]["metadata"]["annotations"] = brought.clone();
    template["spec"]["template"]["metadata"]["labels"] = brought;
    let job = Plan { job: Draft::Rendered(template), ..plan(ResultSource::Stdout) }.manifest(&waiter()).unwrap();
    let annotations = job.metadata.annotations.unwrap();
    assert_eq!(annotations.keys().filter(|name| name.starts_with("jobquay.dev/w.")).count(), 1, "{annotations:?}");
    assert!(!annotations.contains_key("jobquay.dev/succeeded") && annotations["example.com/a"] == "kept");
    let pod = job.spec.unwrap().template.metadata.unwrap();
    assert_eq!(pod.annotations.unwrap().into_keys().collect::<Vec<_>>(), ["example.com/a"]);
    assert!(!pod.labels.unwrap().contains_key("jobquay.dev/succeeded"));
}

#[test]
fn a_worker_that_uploads_is_told_its_runs_own_key() {
    let key = |waiter: &Waiter| {
        let job = plan(ResultSource::Redis).manifest(waiter).unwrap();
        let key = crate::domain::job::upload_key(&job).unwrap();
        let pod = job.spec.unwrap().template;
        let variable = pod.spec.unwrap().containers[0].env.clone().unwrap().pop().unwrap();
        assert_eq!((variable.name.as_str(), variable.value.as_ref()), (RESULT_KEY, Some(&key)));
        assert_eq!(pod.metadata.unwrap().finalizers, None, "the pod is not needed");
        assert_eq!(key.strip_prefix(UPLOAD_PREFIX).map(str::len), Some(64));
        key
    };
    let later = Waiter { received_at: Timestamp::MAX, ..waiter() };
    assert_eq!(key(&waiter()), key(&waiter()));
    assert_ne!(key(&waiter()), key(&later));
    let elsewhere = plan(ResultSource::Stdout).manifest(&waiter()).unwrap();
    assert_eq!(crate::domain::job::upload_key(&elsewhere), None);
}

#[test]
fn what_the_request_wrote_reaches_the_container_unexpanded() {
    let job = inline(&seed_job(), &defaults());
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"], json!(["--day", "$$(DAY)"]));
    assert_eq!(
        container["env"][1],
        json!({"name": "GOOGLE_APPLICATION_CREDENTIALS", "value": "/var/secrets/google/key.json"})
    );
}

#[test]
fn the_trace_reaches_the_container_unexpanded() {
    let (parent, state) = ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=$(TRACEPARENT)");
    let traced = Waiter { traceparent: Some(parent.into()), tracestate: Some(state.into()), ..waiter() };
    let job = serde_json::to_value(plan(ResultSource::Auto).manifest(&traced).unwrap()).unwrap();
    let env = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let value = |name: &str| env.iter().find(|variable| variable["name"] == name).unwrap()["value"].clone();
    assert_eq!((value("TRACEPARENT"), value("TRACESTATE")), (json!(parent), json!("a=$$(TRACEPARENT)")));
}

#[test]
fn a_manifest_of_the_wrong_type_is_a_rejection_and_no_panic() {
    let wrong = Plan { job: Draft::Rendered(json!({"spec": {"backoffLimit": "three"}})), ..plan(ResultSource::Auto) };
    assert_eq!(wrong.manifest(&waiter()).unwrap_err().code, Code::ClusterDenied);
}
