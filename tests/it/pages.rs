//! The pages as a browser without scripts gets them.

use serde_json::json;

use crate::support::{Dispatcher, Request, World, eventually};
use crate::whereabouts::once;

/// The SHA-256 of "secret".
const OPERATORS: &str = "http.operators=2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
const VIEWERS: &str = "http.viewers=d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa";
const HOSTILE: &str = "<script>alert(1)</script>\u{1b}[31m\u{202e}\"'&";

fn page(dispatcher: &Dispatcher, path: &str) -> String {
    let (status, text) = dispatcher.get(path).expect("an answer");
    assert_eq!(status, 200, "{path}: {text}");
    text
}

/// Posts a form as who has signed in; where that leads.
fn post(dispatcher: &Dispatcher, path: &str, form: &[&str]) -> (u16, String) {
    let mut arguments = vec!["-X", "POST", "-H", "Cookie: jobquay=secret", "-o", "/dev/null", "-D", "-"];
    for field in form {
        arguments.extend(["--data-urlencode", field]);
    }
    if form.is_empty() {
        arguments.extend(["-d", ""]);
    }
    let (status, headers) = dispatcher.call(&arguments, path).expect("an answer");
    let to = headers.lines().find_map(|line| line.strip_prefix("location: ")).unwrap_or_default();
    (status, to.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_screen_is_there_and_shows_hostile_text_harmlessly() {
    let world = World::new("pages").await;
    let dispatcher = world.dispatcher_with(&[OPERATORS]).await;
    let mut producer = world.producer().await;
    let script = format!("echo '{}' >&2; exit 3", HOSTILE.replace('\'', ""));
    let id = format!("{HOSTILE}/?#{}", world.name);
    producer.send(Request::template("script", &json!({"script": script})).id(&id)).await;
    assert_eq!(producer.event().await.state(), "failed");
    let encoded: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
    let encoded = encoded.replace('+', "%20");
    once(&dispatcher, &encoded, "/state", &json!("failed")).await;
    let own = format!("/requests/{encoded}");
    let screens =
        ["/", "/requests?state=failed", &own, "/cache", "/templates", "/templates/script", "/queues", "/system"];
    for path in screens {
        let text = page(&dispatcher, path);
        assert!(text.starts_with("<!DOCTYPE html>") && text.contains("<h1>"), "{path}: {text}");
        let scripts = text.matches("<script").count();
        assert!(scripts == 1 && text.contains("/static/page.js\" defer"), "{path}: only its own script: {text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}') && !text.contains("style="), "{path}: {text}");
        let headers = dispatcher.headers(path);
        assert!(headers.contains("content-security-policy: default-src 'none'"), "{path}: {headers}");
    }
    let shown = page(&dispatcher, &own);
    assert!(
        shown.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && shown.contains("\\u{1b}[31m\\u{202e}"),
        "{shown}"
    );
    assert!(page(&dispatcher, "/requests?state=failed").contains(&format!("href=\"{own}\"")));
    for (path, kind) in [("/static/style.css", "text/css"), ("/static/page.js", "text/javascript")] {
        assert!(dispatcher.headers(path).contains(kind), "{path}");
    }
    assert_eq!(dispatcher.get("/requests/nobody").expect("an answer").0, 404);
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_signed_in_asks_cancels_and_asks_again() {
    let world = World::new("pages-act").await;
    let dispatcher = world.dispatcher_with(&[OPERATORS, VIEWERS]).await;
    let (status, _) = dispatcher.call(&["-o", "/dev/null"], "/requests").expect("an answer");
    assert_eq!(status, 303, "to where one signs in");
    let sign_in = |token: &str| {
        let token = format!("token={token}");
        dispatcher.call(&["-X", "POST", "-d", &token, "-o", "/dev/null", "-D", "-"], "/sign-in").expect("an answer")
    };
    assert_eq!(sign_in("wrong").0, 401);
    let (status, headers) = sign_in("other");
    assert!(status == 303 && headers.contains("jobquay=other; HttpOnly; SameSite=Strict; Path=/"), "{headers}");
    let as_viewer = ["-H", "Cookie: jobquay=other"];
    assert_eq!(dispatcher.call(&as_viewer, "/requests").expect("an answer").0, 200);
    let asks = ["-H", "Cookie: jobquay=other", "-X", "POST", "-d", "params={}"];
    assert_eq!(dispatcher.call(&asks, "/templates/script").expect("an answer").0, 403, "a viewer only looks");
    let foreign =
        ["-H", "Cookie: jobquay=secret", "-H", "Origin: http://evil.example", "-X", "POST", "-d", "params={}"];
    assert_eq!(dispatcher.call(&foreign, "/templates/script").expect("an answer").0, 403, "another site's page");

    let (status, own) = post(&dispatcher, "/templates/script", &[r#"params={"script": "sleep 60"}"#]);
    let own = own.strip_suffix("?new").expect("it was asked just now").to_owned();
    assert!(status == 303 && own.starts_with("/requests/"), "{own}");
    assert_eq!(dispatcher.call(&as_viewer, "/requests/nobody?new").expect("an answer").0, 200, "it may come yet");
    let text = async || {
        let (status, text) = dispatcher.call(&as_viewer, &own).expect("an answer");
        (status == 200).then_some(text)
    };
    eventually("it runs", async || text().await.filter(|text| text.contains(">started<"))).await;
    assert!(text().await.is_some_and(|text| text.contains("data-follow=\"/api/v1/requests/")));
    assert_eq!(post(&dispatcher, &format!("{own}/cancel"), &[]), (303, own.clone()));
    eventually("it is cancelled", async || text().await.filter(|text| text.contains(">cancelled<"))).await;
    assert!(text().await.is_some_and(|text| text.contains("data-ended")));
    let (status, again) = post(&dispatcher, &format!("{own}/retry"), &["bypass=true"]);
    assert!(status == 303 && again != own, "{again}");
    let again = again.strip_suffix("?new").expect("it was asked just now");
    eventually("it is known", async || (dispatcher.call(&as_viewer, again).expect("an answer").0 == 200).then_some(()))
        .await;
    assert_eq!(post(&dispatcher, &format!("{again}/cancel"), &[]).0, 303);
    assert_eq!(post(&dispatcher, "/templates/script", &["params={"]).0, 400);
    world.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_path_of_its_own_every_link_leads_there() {
    let world = World::new("pages-base").await;
    let dispatcher = world.dispatcher_with(&["http.base_path=/tools/jobquay"]).await;
    for path in ["/", "/tools/jobquay/", "/tools/jobquay/requests", "/requests"] {
        let text = page(&dispatcher, path);
        let links =
            text.split("href=\"").skip(1).chain(text.split("src=\"").skip(1)).chain(text.split("action=\"").skip(1));
        let targets: Vec<_> = links.filter_map(|rest| rest.split('"').next()).filter(|to| *to != "#main").collect();
        assert!(targets.len() > 6 && targets.iter().all(|to| to.starts_with("/tools/jobquay/")), "{path}: {targets:?}");
    }
    assert!(dispatcher.headers("/tools/jobquay").contains("location: /tools/jobquay/"));
    assert_eq!(dispatcher.get("/tools/jobquay/api/v1/system").expect("an answer").0, 200);
}
