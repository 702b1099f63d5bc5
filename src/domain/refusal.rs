//! What the API server says against an object that it does not take, and whether it will say that for ever.

/// Where a quota leaves no room, or was not accounted for yet.
pub fn is_quota(message: &str) -> bool {
    message.contains("exceeded quota") || message.contains("status unknown for quota")
}

/// Whether it may be otherwise later: rights that are missing and a namespace that goes, which an operator can mend; a quota,
/// which runs empty and fills again; and an API server that has not loaded its policies and namespaces since it began.
pub fn passes(message: &str) -> bool {
    let says = |words: &str| message.contains(words);
    let lacks_right = says("User \"") && says("\" cannot ");
    lacks_right || says("not yet ready to handle request") || says("is being terminated") || is_quota(message)
}
