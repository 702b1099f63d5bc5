//! A request that is asked for once more.

use serde_json::{Map, Value};

use super::CacheMode;

/// The same work without the deadline of then. A CloudEvent is asked for without its envelope, whose id it would go by.
pub fn once_more(body: &str, cache: Option<CacheMode>) -> Option<Vec<u8>> {
    let body: Value = serde_json::from_str(body).ok()?;
    let body = if body["specversion"].is_string() { body["data"].clone() } else { body };
    let Value::Object(mut body) = body else { return None };
    body.remove("deadline");
    if let Some(mode) = cache {
        let cache = body.entry("cache").or_insert_with(|| Value::Object(Map::new()));
        cache["mode"] = serde_json::to_value(mode).ok()?;
    }
    serde_json::to_vec(&body).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn again(body: &Value, cache: Option<CacheMode>) -> Option<Value> {
        once_more(&body.to_string(), cache).map(|body| serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn a_request_is_asked_for_again_without_its_deadline_and_its_envelope() {
        let plain = json!({"template": "t", "params": {"n": 1}, "deadline": "2026-01-01T00:00:00Z"});
        let expected = json!({"template": "t", "params": {"n": 1}});
        assert_eq!(again(&plain, None), Some(expected.clone()));
        let event = json!({"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": plain});
        assert_eq!(again(&event, None), Some(expected));
        let kept = json!({"template": "t", "cache": {"ttl": "1h"}});
        let bypassing = json!({"template": "t", "cache": {"ttl": "1h", "mode": "bypass"}});
        assert_eq!(again(&kept, Some(CacheMode::Bypass)), Some(bypassing));
        assert_eq!(again(&json!([1]), None), None);
    }
}
