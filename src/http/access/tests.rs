use axum::http::{HeaderName, HeaderValue};

use super::*;
use crate::config::Layered;

/// Computed outside, with sha256sum over "secret" and "other".
const SECRET: &str = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
const OTHER: &str = "d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";
const LOCAL: (&str, &str) = ("host", "localhost:8080");

fn access(settings: &[&str]) -> Access {
    let settings: Vec<_> = settings.iter().map(ToString::to_string).collect();
    Access::new(&Layered::load(None, [], &settings).unwrap().config().unwrap().http)
}

fn ask(access: &Access, method: &Method, headers: &[(&str, &str)]) -> Result<(), u16> {
    let peer = Some("127.0.0.1".parse().unwrap());
    let pairs = headers
        .iter()
        .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap()));
    access.admit(method, &pairs.collect(), peer).map_err(|problem| problem.status)
}

#[test]
fn without_tokens_only_the_own_machine_may_read_and_nobody_may_change_anything() {
    for listen in ["127.0.0.1:8080", "[::1]:8080"] {
        let access = access(&[&format!("http.listen={listen}")]);
        for host in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(ask(&access, &Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(ask(&access, &Method::POST, &[LOCAL]), Err(403));
        for other in ["rebound.example:8080", "localhost.example", "192.0.2.1:8080"] {
            assert_eq!(ask(&access, &Method::GET, &[("host", other)]), Err(403), "{other}");
        }
        assert_eq!(ask(&access, &Method::GET, &[]), Err(403));
    }
    assert_eq!(ask(&access(&["http.listen=0.0.0.0:8080"]), &Method::GET, &[LOCAL]), Err(403));
}

#[test]
fn a_viewer_reads_and_an_operator_changes_things_too() {
    for listen in ["127.0.0.1:8080", "0.0.0.0:8080"] {
        let (viewers, operators) = (format!("http.viewers={SECRET}"), format!("http.operators={OTHER}"));
        let access = access(&[&format!("http.listen={listen}"), &viewers, &operators]);
        let shown = |method: &Method, token: &str| ask(&access, method, &[LOCAL, ("authorization", token)]);
        assert_eq!(shown(&Method::GET, "Bearer secret"), Ok(()));
        assert_eq!(shown(&Method::POST, "Bearer secret"), Err(403));
        assert_eq!(shown(&Method::GET, "Bearer other"), Ok(()));
        assert_eq!(shown(&Method::DELETE, "Bearer other"), Ok(()));
        for wrong in ["Bearer Secret", "secret", "Bearer ", "Basic secret", ""] {
            assert_eq!(shown(&Method::GET, wrong), Err(401), "{wrong:?}");
        }
        assert_eq!(ask(&access, &Method::GET, &[LOCAL]), Err(401));
    }
}

#[test]
fn on_the_own_machine_reading_is_free_where_only_operators_have_tokens() {
    let access = access(&["http.listen=127.0.0.1:8080", &format!("http.operators={OTHER}")]);
    assert_eq!(ask(&access, &Method::GET, &[LOCAL]), Ok(()));
    assert_eq!(ask(&access, &Method::POST, &[LOCAL]), Err(401));
}

#[test]
fn a_trusted_proxy_says_whose_call_it_is_and_nobody_else_does() {
    let trusting = access(&["http.listen=127.0.0.1:8080", "http.trusted_proxies=127.0.0.1"]);
    let said = |access: &Access, method: &Method, role: &str| ask(access, method, &[LOCAL, (ROLE, role)]);
    assert_eq!(said(&trusting, &Method::GET, "viewer"), Ok(()));
    assert_eq!(said(&trusting, &Method::POST, "viewer"), Err(403));
    assert_eq!(said(&trusting, &Method::POST, "operator"), Ok(()));
    assert_eq!(said(&trusting, &Method::GET, "root"), Err(403));
    assert_eq!(ask(&trusting, &Method::GET, &[LOCAL]), Err(403), "it did not say");
    let other = access(&["http.listen=0.0.0.0:8080", "http.trusted_proxies=192.0.2.7"]);
    assert_eq!(said(&other, &Method::GET, "operator"), Err(403));
}

#[test]
fn a_page_of_another_site_changes_nothing() {
    let access = access(&["http.listen=127.0.0.1:8080", &format!("http.operators={OTHER}")]);
    let from = |name, value| ask(&access, &Method::POST, &[LOCAL, ("authorization", "Bearer other"), (name, value)]);
    assert_eq!(from("sec-fetch-site", "same-origin"), Ok(()));
    assert_eq!(from("origin", "http://localhost:8080"), Ok(()));
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "http://evil.example"),
        ("origin", "null"),
    ] {
        assert_eq!(from(name, value), Err(403), "{name}: {value}");
    }
}

#[test]
fn no_more_calls_are_answered_than_are_allowed() {
    let access = access(&["http.listen=127.0.0.1:8080", "http.calls_per_second=2"]);
    let answers: Vec<_> = (0..3).map(|_| ask(&access, &Method::GET, &[LOCAL])).collect();
    assert_eq!(answers, [Ok(()), Ok(()), Err(429)]);
}
