//! A control group with a limit to its memory: whoever takes more is killed by the kernel.

use std::path::{Path, PathBuf};

pub(crate) struct MemoryLimit {
    group: PathBuf,
    /// Where the kernel counts whom it has killed.
    counter: &'static str,
}

impl MemoryLimit {
    pub(crate) fn start(name: &str, bytes: u64) -> Self {
        // The hierarchy of version 1, or else the one of version 2.
        let first = Path::new("/sys/fs/cgroup/memory");
        let (root, limit, counter) = if first.exists() {
            (first, "memory.limit_in_bytes", "memory.oom_control")
        } else {
            (Path::new("/sys/fs/cgroup"), "memory.max", "memory.events")
        };
        let group = root.join(format!("jobquay-{name}"));
        std::fs::create_dir(&group).expect("a control group, which takes root");
        std::fs::write(group.join(limit), bytes.to_string()).expect("a limit");
        Self { group, counter }
    }

    /// From now on what it takes counts.
    pub(crate) fn take(&self, pid: &str) {
        std::fs::write(self.group.join("cgroup.procs"), pid).expect("the process in the group");
    }

    /// How many the kernel has killed.
    pub(crate) fn kills(&self) -> u64 {
        let text = std::fs::read_to_string(self.group.join(self.counter)).expect("a counter");
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).expect("a number")
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // Only an empty one goes; another test's failure is not made better by this one's.
        let _ = std::fs::remove_dir(&self.group);
    }
}
