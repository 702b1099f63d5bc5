//! Which calls the API server would allow, asked without making them.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;

use super::{Clients, Error, call};

/// One right: API group, resource (with subresource), verb.
pub type Right = (&'static str, &'static str, &'static str);

/// Exactly the calls that the dispatcher makes in each namespace that it works in.
pub const NEEDED: [Right; 12] = [
    ("batch", "jobs", "create"),
    ("batch", "jobs", "get"),
    ("batch", "jobs", "list"),
    ("batch", "jobs", "watch"),
    ("batch", "jobs", "patch"),
    ("batch", "jobs", "delete"),
    ("", "pods", "get"),
    ("", "pods", "list"),
    ("", "pods", "watch"),
    ("", "pods", "patch"),
    ("", "pods/log", "get"),
    ("", "events", "list"),
];

/// What a member does with Leases, in the dispatcher's own namespace.
pub const MEMBER: [Right; 5] = [
    ("coordination.k8s.io", "leases", "create"),
    ("coordination.k8s.io", "leases", "list"),
    ("coordination.k8s.io", "leases", "watch"),
    ("coordination.k8s.io", "leases", "patch"),
    ("coordination.k8s.io", "leases", "delete"),
];

/// Whether the configured identity has `right` in `namespace`; `None` asks for the whole cluster.
pub async fn allowed(clients: &Clients, right: Right, namespace: Option<&str>, limit: Duration) -> Result<bool, Error> {
    let (group, resource, verb) = right;
    let (resource, subresource) = match resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (resource, None),
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource,
                verb: Some(verb.to_owned()),
                namespace: namespace.map(str::to_owned),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(clients.read.clone());
    let answer = call("review access", limit, reviews.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
