//! The result cache: whether it answers, and whether it can keep what it is given.

use super::Report;
use crate::cache::Survey;
use crate::config::Config;

/// Commands of this version are used.
const OLDEST: u64 = 7;
/// Milliseconds; what was under way is in it.
const IN_STEP: u64 = 2000;
const MIB: u64 = 1 << 20;

pub(super) async fn check(config: &Config, report: &mut Report) {
    let mend = "start Redis 7 or newer, or set `cache.url`; without it everything runs, and nothing is shared";
    let store = match crate::cli::store(config).await {
        Ok(store) => store,
        Err(why) => return report.wrong("redis", why, mend),
    };
    report.ok("redis", &config.cache.url);
    match store.survey().await {
        Ok(survey) => judge(&survey, report),
        Err(why) => report.note("redis", format!("its memory and clock cannot be seen by this user ({why})")),
    }
}

fn judge(survey: &Survey, report: &mut Report) {
    if survey.version.split('.').next().and_then(|major| major.parse::<u64>().ok()).is_some_and(|major| major < OLDEST)
    {
        report.wrong("redis version", &survey.version, "run Redis 7 or newer: `SET … NX GET` came with it");
    }
    if survey.is_replica {
        report.wrong("redis role", "a replica, which takes no writes", "let `cache.url` name the primary");
    }
    let memory = "redis memory";
    let used = format!("{} MiB used", survey.used_bytes / MIB);
    match (survey.max_bytes, survey.policy.as_str()) {
        (0, _) => report.note(memory, format!("{used}, and no `maxmemory`: it grows as far as the machine goes")),
        (max, "noeviction") => report.note(
            memory,
            format!(
                "{used} of {}; once full it takes no result (`maxmemory-policy` allkeys-lru would make room)",
                max / MIB
            ),
        ),
        (max, policy) => report.ok(memory, format!("{used} of {}, {policy}", max / MIB)),
    }
    match survey.clock_off_by.as_millis() {
        off if off <= u128::from(IN_STEP) => report.ok("redis clock", "in step with this one"),
        off => report.note("redis clock", format!("{off} ms off: results end by it, and are judged by a dispatcher's")),
    }
}
