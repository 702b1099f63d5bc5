//! The way of any message from its arrival to the Job it would become: total, and never more than the
//! request may have.
//!
//! The first byte says what the properties are, the rest is the body.
#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use jobquay::domain::catalog::Catalog;
use jobquay::domain::manifest::{self, InlineDefaults};
use jobquay::domain::namespaces::Namespaces;
use jobquay::domain::request::{Arrival, Asked, MessageId, Work, parse};
use jobquay::domain::template::{Limits, Template, TemplateDefaults};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const LIMITS: Limits =
    Limits { start: Duration::from_secs(300), image_pull: Duration::from_secs(120), run: Duration::from_secs(3600) };

static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let defaults = TemplateDefaults { result_max: 1 << 20, limits: LIMITS, namespaces: None, lanes: None };
    let hello = Template::load(include_str!("../../examples/templates/hello.yaml"), &defaults).expect("it loads");
    Catalog {
        templates: [(hello.name.clone(), Arc::new(hello))].into(),
        namespaces: Namespaces { own: "work".into(), further: Vec::new() },
        tenant: "default".into(),
        inline: InlineDefaults {
            backoff_limit: 3,
            ttl: Duration::from_secs(60),
            image_pull_policy: "Always".into(),
            labels: BTreeMap::from([("app".into(), "sample".into())]),
            credentials_variable: "GOOGLE_APPLICATION_CREDENTIALS".into(),
            credentials_file: "key.json".into(),
            run_as_user: 10_001,
        },
        limits: LIMITS,
        result_max: 1 << 20,
        ttl: Duration::from_secs(3600),
        keep: Duration::from_secs(3600),
    }
});

fn arrival(kind: u8, body: &[u8]) -> Arrival {
    let text = String::from_utf8_lossy(body);
    let cut = |length: usize| text.chars().take(length).collect::<String>();
    let cloud_event = kind == b'c' || kind == b'C';
    Arrival {
        content_type: cloud_event.then(|| "application/cloudevents+json".into()).or((kind == b't').then(|| cut(40))),
        content_encoding: (kind == b'e').then(|| cut(20)),
        id: match kind {
            b'C' => MessageId::Minted("minted".into()),
            b'm' if !body.is_empty() => MessageId::Given(cut(255)),
            _ => MessageId::Given("m-1".into()),
        },
        reply_to: Some("replies".into()),
        correlation_id: (kind == b'm').then(|| cut(255)),
        traceparent: (kind == b'p').then(|| cut(55)),
        tracestate: (kind == b'p').then(|| cut(600)),
        ..Arrival::bare(body.to_vec(), "minted".into(), Timestamp::UNIX_EPOCH)
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, body)) = data.split_first() else { return };
    let arrival = arrival(*kind, body);
    let request = match parse(&arrival, 1 << 16) {
        Ok(Asked::Run(request)) => *request,
        Ok(Asked::Cancel(cancel)) => {
            assert!((1..=200).contains(&cancel.request_id.len()));
            return;
        }
        Err(unparsed) => {
            assert!(unparsed.waiter.request_id.len() <= 200);
            assert!(!unparsed.rejection.message.is_empty() && unparsed.rejection.message.len() < 1100);
            return;
        }
    };
    assert!(request.waiter.request_id.len() <= 200);
    let Ok(plan) = CATALOG.plan(&request) else { return };
    assert!(plan.name().len() <= 48);
    let Ok(job) = plan.manifest(&request.waiter) else { return };
    let template = job.spec.expect("a spec").template;
    let pod = template.spec.expect("a pod");
    assert!(pod.host_network.is_none() && pod.host_pid.is_none() && pod.host_ipc.is_none());
    assert!(pod.service_account_name.is_none() && pod.automount_service_account_token == Some(false));
    assert_eq!(pod.containers.len(), 1);
    let container = &pod.containers[0];
    let context = container.security_context.as_ref().expect("it stands in the manifest");
    assert!(context.privileged.is_none() && context.allow_privilege_escalation == Some(false));
    for volume in pod.volumes.iter().flatten() {
        assert!(volume.host_path.is_none() && volume.secret.is_some());
    }
    for text in container.args.iter().chain(&container.command).flatten() {
        assert!(!text.contains('\0'), "no process can be started with it");
    }
    for variable in container.env.iter().flatten() {
        assert!(variable.value_from.is_none() && !variable.value.as_deref().unwrap_or_default().contains('\0'));
    }
    for mount in container.volume_mounts.iter().flatten() {
        let parts = mount.mount_path.split('/').filter(|part| !["", "."].contains(part)).count();
        assert!(mount.mount_path.starts_with('/') && parts > 0, "not over the root: {}", mount.mount_path);
    }
    let labels = job.metadata.labels.expect("labels");
    assert_eq!(labels["app.kubernetes.io/managed-by"], "jobquay");
    assert_eq!(labels["jobquay.dev/open"], "true");
    let ours = [manifest::MANAGED_BY.0, manifest::OPEN, manifest::TEMPLATE, manifest::LANE, manifest::SHARD];
    let reserved = |name: &&String| name.contains("jobquay.dev") || name.contains("k8s.io");
    assert!(labels.keys().filter(reserved).all(|name| ours.contains(&name.as_str())), "{labels:?}");
    assert_eq!(labels[manifest::LANE], "default");
    if let Work::Template { params, .. } = &request.work {
        assert!(matches!(params.get("name"), Some(Value::String(_))), "as the schema says");
    }
});
