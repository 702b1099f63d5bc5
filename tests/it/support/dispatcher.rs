//! A dispatcher as its own process, so that it can be killed.

use std::collections::HashSet;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Duration;

use super::stack::{STACK, root};
use super::{World, eventually};

pub(crate) struct Dispatcher {
    child: Child,
    pub(crate) port: u16,
    log: PathBuf,
}

/// The program that these tests are about.
pub(crate) const THIS_BUILD: &str = env!("CARGO_BIN_EXE_jobquay");

/// The same, or what `JOBQUAY_BUILD` puts in its place (deploy/local/test-mutations).
pub(super) fn build_under_load() -> PathBuf {
    std::env::var_os("JOBQUAY_BUILD").map_or_else(|| PathBuf::from(THIS_BUILD), PathBuf::from)
}

/// The command with the world's addresses as its environment; a test adds what it is about.
pub(crate) fn jobquay(world: &World) -> Command {
    command(Path::new(THIS_BUILD), world)
}

fn command(program: &Path, world: &World) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(root())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("RUST_BACKTRACE", "1")
        .env("KUBECONFIG", STACK.value("KUBECONFIG"))
        .env("JOBQUAY__AMQP__URL", world.broker.url())
        .env("JOBQUAY__AMQP__TOPOLOGY", "declare")
        .env("JOBQUAY__CACHE__URL", STACK.value("REDIS_URL"))
        .env("JOBQUAY_TOKEN", "secret")
        // Eight tests on two cores starve an unoptimised process for longer than a lookup's usual 20 ms.
        .env("JOBQUAY__CACHE__LOOKUP_TIMEOUT", "1s")
        .env("JOBQUAY__KUBERNETES__NAMESPACE", &world.name)
        .env("JOBQUAY__INTAKE__TENANT", &world.name)
        .env("JOBQUAY__TEMPLATES__DIR", root().join("tests/it/templates"))
        .env("JOBQUAY__POLICY__FILE", root().join("deploy/local/policy.yaml"))
        // The lane of the template `narrow`.
        .env("JOBQUAY__LANES__BULK", "1")
        .env("JOBQUAY__INLINE__IMAGE_PULL_POLICY", "IfNotPresent")
        .env("JOBQUAY__HTTP__LISTEN", "");
    command
}

/// In its environment: nobody reads what it logs.
pub(crate) const UNREAD: (&str, &str) = ("LOG", "unread");
/// Likewise: it logs to where there is no room.
pub(crate) const FULL_DISK: (&str, &str) = ("LOG", "full");

impl Dispatcher {
    pub(super) fn start(program: &Path, world: &World, environment: &[(&str, &str)], settings: &[&str]) -> Self {
        let log = STACK.dir.join("log").join(format!("{}-{}.log", world.name, uuid::Uuid::now_v7().simple()));
        let file = File::create(&log).expect("a log file");
        let port = free_port();
        let mut command = command(program, world);
        command.envs(environment.iter().copied());
        command.args([
            "serve",
            "--set",
            &format!("http.listen=127.0.0.1:{port}"),
            "--set",
            "log.level=debug,lapin=info,hyper_util=info,kube_client=info,rustls=info,tower=info",
        ]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        if environment.contains(&UNREAD) {
            command.stderr(Stdio::piped());
        } else if environment.contains(&FULL_DISK) {
            let full = File::options().write(true).open("/dev/full").expect("/dev/full");
            command.stdout(full.try_clone().expect("a second handle")).stderr(full);
        } else {
            command.stdout(file.try_clone().expect("a second handle")).stderr(file);
        }
        Self { child: command.spawn().expect("a dispatcher"), port, log }
    }

    /// What it logs where nobody has read it so far.
    pub(crate) fn unread_log(&mut self) -> ChildStderr {
        self.child.stderr.take().expect("it was started with UNREAD, and its log not taken yet")
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    pub(crate) async fn ready(&self) {
        eventually("the dispatcher is ready", async || self.get("/readyz").filter(|(status, _)| *status == 200)).await;
    }

    /// GET, as a probe makes it: status and body; `None` when nobody answers.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        self.call(&["--max-time", "5"], path)
    }

    /// Any call, by further arguments of curl.
    pub(crate) fn call(&self, arguments: &[&str], path: &str) -> Option<(u16, String)> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let output = Command::new("curl")
            .args(["-sS", "-w", "\n%{http_code}"])
            .args(arguments)
            .arg(&url)
            .output()
            .expect("curl can be run");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n')?;
        let status = status.parse().ok().filter(|status| *status != 0)?;
        Some((status, body.to_owned()))
    }

    /// The header lines of what is answered, in lower case.
    pub(crate) fn headers(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let arguments = ["-sS", "--max-time", "5", "-o", "/dev/null", "-D", "-", &url];
        let output = Command::new("curl").args(arguments).output().expect("curl can be run");
        String::from_utf8_lossy(&output.stdout).to_lowercase()
    }

    /// The value of one metric, summed over its labels that contain `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> f64 {
        let (_, text) = self.get("/metrics").expect("metrics");
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(labels));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// SIGKILL: what a crash, an out-of-memory kill and a lost node look like.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it has ended");
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill can be run").success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually("the dispatcher ends", async || self.child.try_wait().expect("its state can be asked")).await
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its state can be asked").is_some()
    }

    /// Whether SIGSTOP has stopped it.
    #[cfg(feature = "crash-points")]
    pub(crate) fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("its state");
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// It gets no descriptor from this number on, and keeps those that it has.
    pub(crate) fn limit_descriptors(&self, limit: usize) {
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &self.pid(), &format!("--nofile={limit}:")]);
        assert!(prlimit.status().expect("prlimit can be run").success());
    }

    /// What it has in memory.
    pub(crate) fn memory_kib(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// Lets the peak begin anew.
    pub(crate) fn forget_peak_memory(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("its peak can be reset");
    }

    /// The most that it had in memory.
    pub(crate) fn peak_memory_kib(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// How many files and sockets it has open.
    pub(crate) fn descriptors(&self) -> usize {
        self.open_files().count()
    }

    /// How many of them are connections to this port.
    pub(crate) fn connections_to(&self, port: u16) -> usize {
        let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", self.child.id())).expect("its connections");
        let remote = format!(":{port:04X}");
        let to_port = table.lines().filter_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            fields.get(2)?.ends_with(&remote).then(|| format!("socket:[{}]", fields.get(9).unwrap_or(&"")))
        });
        let sockets: HashSet<String> = to_port.collect();
        self.open_files().filter(|file| sockets.contains(file)).count()
    }

    /// What each of its descriptors leads to. One that is closed meanwhile leads nowhere.
    fn open_files(&self) -> impl Iterator<Item = String> {
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("its descriptors");
        let target = |descriptor: std::io::Result<std::fs::DirEntry>| std::fs::read_link(descriptor.ok()?.path()).ok();
        descriptors.filter_map(target).map(|target| target.to_string_lossy().into_owned())
    }

    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of the status");
        line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number of KiB")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("its log")
    }

    /// Waits for a line in the log.
    pub(crate) async fn says(&self, text: &str) {
        eventually(&format!("the log says {text:?}"), async || self.log().contains(text).then_some(())).await;
    }

    pub(crate) async fn unready(&self) {
        eventually("the dispatcher is not ready", async || self.get("/readyz").filter(|(status, _)| *status == 503))
            .await;
    }

    pub(crate) async fn pause(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Leaves a process a tenth of its time for as long as this is polled; it may stand still then.
pub(crate) async fn starve(signal: impl Fn(&str)) {
    loop {
        for (name, milliseconds) in [("-STOP", 180), ("-CONT", 20)] {
            signal(name);
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        // It may have ended already, as its test wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(40).collect();
            eprintln!("--- the end of {}", self.log.display());
            tail.into_iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The clock of a process that has this in its environment, by libfaketime, which Debian has in the package `faketime`.
pub(crate) struct Clock {
    library: String,
    file: String,
}

impl Clock {
    /// Right until it is set.
    pub(crate) fn of(world: &World) -> Self {
        let found = std::fs::read_dir("/usr/lib").expect("/usr/lib").filter_map(|entry| {
            let library = entry.ok()?.path().join("faketime/libfaketimeMT.so.1");
            library.exists().then(|| library.display().to_string())
        });
        let library = found.last().expect("the package faketime, which deploy/local/test installs");
        let file = STACK.dir.join("log").join(format!("{}.clock", world.name)).display().to_string();
        let clock = Self { library, file };
        clock.set("+0");
        clock
    }

    /// From now on it is wrong by this, as in `-1h`; who runs already jumps.
    pub(crate) fn set(&self, offset: &str) {
        // Read half written it would be right for a moment.
        let next = format!("{}.next", self.file);
        std::fs::write(&next, offset).expect("an offset");
        std::fs::rename(&next, &self.file).expect("the offset in its place");
    }

    pub(crate) fn environment(&self) -> [(&str, &str); 4] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", &self.file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    }
}

pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
