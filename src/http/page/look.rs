//! How things look that stand on several screens. All text is escaped by what makes the page; control characters and those that
//! turn the direction of text are shown by their numbers.

use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

use super::page;
use crate::domain::status::{Progress, Status};
use crate::http::problem::Problem;
use crate::http::{Pages, segment};

/// Text from outside.
pub(super) fn shown(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\t')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) { safe.extend(c.escape_unicode()) } else { safe.push(c) }
    }
    safe
}

pub(super) fn state(state: Progress) -> Markup {
    let class = match state {
        Progress::Succeeded => "good",
        Progress::Failed | Progress::Rejected | Progress::Expired => "bad",
        Progress::Received | Progress::Accepted | Progress::Started => "wait",
        Progress::Cancelled => "quiet",
    };
    html! { span class=(class) { (state.as_str()) } }
}

/// A time, and how long ago that is.
pub(super) fn time(at: Option<Timestamp>) -> Markup {
    let Some(at) = at else { return html! { "–" } };
    let exact = format!("{at:.3}");
    html! { time datetime=(exact) title=(exact) { (ago(Timestamp::now().duration_since(at))) } }
}

fn ago(time: SignedDuration) -> String {
    match time.as_secs().max(0) {
        seconds @ 0..=119 => format!("{seconds} s ago"),
        seconds @ 120..=7199 => format!("{} min ago", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}

/// In the largest unit that it fills.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..=1023 => format!("{bytes} B"),
        1024..=1_048_575 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// The address of a request's own page.
pub(super) fn address(pages: &Pages, request_id: &str) -> String {
    format!("{}/requests/{}", pages.base, segment(request_id))
}

/// Requests as rows.
pub(super) fn rows(pages: &Pages, requests: &[Status]) -> Markup {
    html! {
        div.table { table {
            thead { tr { th { "Request" } th { "State" } th { "Template" } th { "Producer" } th { "Came" } th { "Waits for, or was served by" } } }
            tbody { @for status in requests { tr {
                td { a.mono href=(address(pages, &status.request_id)) { (shown(&status.request_id)) } }
                td { (state(status.state)) }
                td { (shown(status.template.as_deref().unwrap_or("–"))) }
                td { (shown(status.producer.as_deref().unwrap_or("–"))) }
                td { (time(status.received_at)) }
                td { (shown(status.waiting.as_ref().map(|waiting| waiting.message.as_str()).or(status.served_by.as_deref()).unwrap_or("–"))) }
            } } }
        } }
    }
}

/// What is wrong, in the place of a screen.
pub(super) fn refusal(pages: &Pages, screen: &str, problem: &Problem) -> Response {
    let body = html! { h1 { (problem.title) } p.notice { (shown(&problem.detail)) } };
    let mut response = page(pages, screen, &problem.title, &body);
    *response.status_mut() = problem.clone().into_response().status();
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_obeyed_or_turn_the_text_is_shown_by_its_number() {
        assert_eq!(shown("a\u{1b}[31m\u{202e}b\n\tä"), "a\\u{1b}[31m\\u{202e}b\n\tä");
        let page = html! { p title=(shown("\"><script>")) { (shown("<script>alert(1)</script>&")) } }.into_string();
        assert_eq!(page, "<p title=\"&quot;&gt;&lt;script&gt;\">&lt;script&gt;alert(1)&lt;/script&gt;&amp;</p>");
    }

    #[test]
    fn sizes_and_times_have_one_unit() {
        assert_eq!([5, 2048, 3 << 20].map(size), ["5 B", "2.0 KiB", "3.0 MiB"]);
        assert_eq!(
            [5, 180, 7200, 172_800].map(|seconds| ago(SignedDuration::from_secs(seconds))),
            ["5 s ago", "3 min ago", "2 h ago", "2 d ago"]
        );
    }
}
