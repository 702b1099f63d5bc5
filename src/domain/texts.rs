//! Texts with a grammar: the patterns that the parsers ask and the schemas show.
//!
//! The types stand only in documents from which schemas are derived; nothing makes a value of them.

use schemars::JsonSchema;

/// Days, hours, minutes, seconds and milliseconds, each at most once and in this order. The digits are
/// as many as never leave the range of a time span.
pub const DURATION: &str = "^(?:[0-9]{1,6}d)?(?:[0-9]{1,8}h)?(?:[0-9]{1,9}m)?(?:[0-9]{1,10}s)?(?:[0-9]{1,12}ms)?$";
/// RFC 3339.
pub const TIME: &str =
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})$";
const SIZE: &str = "^[0-9]{1,20} ?(?:B|KiB|MiB|GiB)?$";
/// What Kubernetes calls a label of RFC 1123.
const NAME: &str = "^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$";

/// A length of time such as `90s`, `10m`, `1h30m` or `1d`; a day has 24 hours.
#[derive(JsonSchema)]
#[schemars(rename = "Duration", extend("pattern" = DURATION, "minLength" = 2, "examples" = ["90s", "10m", "1h30m", "1d"]))]
pub struct DurationText(pub String);

/// A time of RFC 3339 such as `2026-11-24T12:00:00Z`.
#[derive(JsonSchema)]
#[schemars(rename = "Time", extend("pattern" = TIME, "format" = "date-time"))]
pub struct TimeText(pub String);

/// A number of bytes such as `4096`, `64KiB` or `1MiB`.
#[derive(JsonSchema)]
#[schemars(rename = "Size", extend("pattern" = SIZE, "examples" = ["4096", "64KiB", "1MiB"]))]
pub struct SizeText(pub String);

/// Lower-case letters, digits and `-`, at most 63.
#[derive(JsonSchema)]
#[schemars(rename = "Name", extend("pattern" = NAME))]
pub struct NameText(pub String);
