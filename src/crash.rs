//! Points at which a test can end the process, or stop it.
//!
//! Each is one call along the ways of a request and of an answer. Without the feature `crash-points`, which no
//! shipped build has, the call is empty. With it `JOBQUAY_CRASH` says `<point>:<pass>:<way>`: at the how-manieth
//! pass of which point the process does what to itself; `abort`, `panic`, or a signal as `kill` names it.

/// The process has come to the point of this name.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: &str) {}

#[cfg(feature = "crash-points")]
pub use armed::point;

#[cfg(feature = "crash-points")]
mod armed {
    use std::process::Command;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    struct Crash {
        point: String,
        pass: usize,
        way: String,
        passed: AtomicUsize,
    }

    /// The one thing of the whole process that a crash is: every task may be the one that meets it.
    static CRASH: LazyLock<Option<Crash>> = LazyLock::new(|| {
        let text = std::env::var("JOBQUAY_CRASH").ok()?;
        let mut parts = text.split(':');
        let mut next = || parts.next().unwrap_or_else(|| panic!("JOBQUAY_CRASH={text} has too few parts"));
        let (point, pass, way) = (next().to_owned(), next().parse().expect("the pass is a number"), next().to_owned());
        Some(Crash { point, pass, way, passed: AtomicUsize::new(0) })
    });

    /// The process has come to the point of this name.
    pub fn point(name: &str) {
        let Some(crash) = CRASH.as_ref().filter(|crash| crash.point == name) else { return };
        if crash.passed.fetch_add(1, Ordering::Relaxed) + 1 != crash.pass {
            return;
        }
        // Past the log, whose thread would not come to it any more.
        eprintln!("crash point {name}, pass {}: {}", crash.pass, crash.way);
        match crash.way.as_str() {
            "abort" => std::process::abort(),
            "panic" => panic!("as the test wants it"),
            _ => {}
        }
        // Waits for it, so that nothing after the point happens on this thread before the signal has come.
        let own = std::process::id().to_string();
        let sent = Command::new("kill").args([format!("-{}", crash.way), own]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the signal {} cannot be sent", crash.way);
        // It is on its way to some thread, and this one would go on until that one runs.
        std::thread::sleep(Duration::from_millis(200));
    }
}
