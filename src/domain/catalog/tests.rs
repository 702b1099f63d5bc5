use super::*;
use crate::domain::request::{Arrival, Asked, parse};
use crate::domain::template::TemplateDefaults;

fn catalog() -> Catalog {
    let second = Duration::from_secs(1);
    let limits = Limits { start: second, image_pull: second, run: second };
    let job = r#"job: {apiVersion: batch/v1, kind: Job, spec: {template: {spec: {containers: [{name: w, image: i, args: ["{{ params.a }}"]}]}}}}"#;
    let parameters = "parameters: {type: object, properties: {a: {type: integer, default: 1}, trace: {type: string}}}";
    let templates = ["shared\ncache: {ttl: 1h, ignore: [/trace]}", "unshared\ncache: never"].map(|head| {
        let defaults = TemplateDefaults { result_max: 1024, limits, namespaces: None, lanes: None };
        let template = Template::load(&format!("name: {head}\n{parameters}\n{job}\n"), &defaults).unwrap();
        (template.name.clone(), Arc::new(template))
    });
    Catalog {
        templates: templates.into(),
        namespaces: Namespaces { own: "work".into(), further: vec!["media".into()] },
        tenant: "default".into(),
        inline: InlineDefaults {
            backoff_limit: 3,
            ttl: Duration::from_secs(60),
            image_pull_policy: "Always".into(),
            labels: BTreeMap::new(),
            credentials_variable: "C".into(),
            credentials_file: "k".into(),
            run_as_user: 1,
        },
        limits,
        result_max: 1024,
        ttl: Duration::from_secs(86_400),
        keep: Duration::from_secs(7200),
    }
}

fn request(id: &str, body: &str) -> Request {
    let arrival = Arrival::bare(body.into(), id.into(), jiff::Timestamp::UNIX_EPOCH);
    let Ok(Asked::Run(request)) = parse(&arrival, 4096) else { panic!("runs nothing") };
    *request
}

fn plan(id: &str, body: &str) -> Result<Plan, Rejection> {
    catalog().plan(&request(id, body))
}

fn key(id: &str, body: &str) -> String {
    plan(id, body).unwrap().key.to_string()
}

#[test]
fn equal_work_has_one_key_whoever_asks_and_however_it_is_written() {
    let plain = key("1", r#"{"template": "shared"}"#);
    for same in [
        r#"{"template": "shared", "params": {"a": 1}}"#,
        r#"{"template": "shared", "params": {"a": 1.0, "trace": "x"}, "labels": {"team": "media"}}"#,
        r#"{"template": "shared", "cache": {"mode": "refresh", "ttl": "5m", "no_store": true}}"#,
    ] {
        assert_eq!(key("2", same), plain, "{same}");
    }
    for other in [
        r#"{"template": "shared", "params": {"a": 2}}"#,
        r#"{"template": "shared", "cache": {"salt": "s"}}"#,
        r#"{"template": "unshared"}"#,
        r#"{"job": {"name": "shared", "image": "i"}}"#,
    ] {
        assert_ne!(key("1", other), plain, "{other}");
    }
}

#[test]
fn what_is_explained_is_the_key_that_is_used() {
    for body in [
        r#"{"template": "shared", "params": {"trace": "x"}, "cache": {"salt": "s"}}"#,
        r#"{"template": "unshared", "params": {"a": 2}}"#,
        r#"{"job": {"name": "shared", "image": "i"}}"#,
    ] {
        let plan = plan("1", body).unwrap();
        assert_eq!(catalog().ingredients(&request("1", body)).unwrap().key(), plan.key, "{body}");
    }
}

#[test]
fn an_unshared_template_has_a_key_per_request_and_keeps_its_memory() {
    let body = r#"{"template": "unshared"}"#;
    assert_ne!(key("1", body), key("2", body));
    assert_eq!(key("1", body), key("1", body));
    assert_eq!(plan("1", body).unwrap().cache, CachePlan { store: true, ttl_seconds: 7200 });
}

#[test]
fn a_run_alone_has_a_name_of_its_own_and_the_shared_key() {
    let alone = plan("1", r#"{"template": "shared", "cache": {"mode": "bypass"}}"#).unwrap();
    let shared = plan("1", r#"{"template": "shared"}"#).unwrap();
    assert_eq!(alone.key, shared.key);
    assert_ne!(alone.name(), shared.name());
}

#[test]
fn the_smaller_ttl_wins() {
    let ttl = |cache: &str| plan("1", &format!(r#"{{"template": "shared", "cache": {cache}}}"#)).unwrap().cache;
    assert_eq!(ttl("{}").ttl_seconds, 3600);
    assert_eq!(ttl(r#"{"ttl": "5m"}"#).ttl_seconds, 300);
    assert_eq!(ttl(r#"{"ttl": "2h"}"#).ttl_seconds, 3600);
    assert!(!ttl(r#"{"no_store": true}"#).store);
    assert!(!ttl(r#"{"ttl": "0s"}"#).store);
}

#[test]
fn an_unknown_template_is_refused_with_the_nearest_one() {
    let rejection = plan("1", r#"{"template": "shraed"}"#).unwrap_err();
    assert_eq!(rejection.code, Code::TemplateUnknown);
    assert!(rejection.message.contains("did you mean `shared`"));
}

#[test]
fn a_secret_that_comes_along_in_an_ignored_parameter_is_refused() {
    let yaml = r#"
name: brings
parameters: {type: object, properties: {volumes: {type: array, default: []}}}
cache: {ignore: [/volumes]}
job: {apiVersion: batch/v1, kind: Job, spec: {template: {spec: {volumes: "{{ params.volumes }}", containers: [{name: w, image: i}]}}}}
"#;
    let mut catalog = catalog();
    let defaults = TemplateDefaults { result_max: 1024, limits: catalog.limits, namespaces: None, lanes: None };
    catalog.templates.insert("brings".into(), Arc::new(Template::load(yaml, &defaults).unwrap()));
    let plan = |volumes: &str| {
        let body = format!(r#"{{"template": "brings", "params": {{"volumes": {volumes}}}}}"#);
        catalog.plan(&request("1", &body)).map(|plan| plan.key)
    };
    assert!(plan("[]").is_ok());
    assert!(plan(r#"[{"name": "v", "emptyDir": {}}]"#).is_ok());
    let rejection = plan(r#"[{"name": "v", "secret": {"secretName": "s"}}]"#).unwrap_err();
    assert_eq!((rejection.code, rejection.pointer.as_deref()), (Code::PolicyDenied, Some("/params/volumes")));
}
