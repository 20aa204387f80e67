//! What systemd sees of the program: a notification socket and a journal stream of our own, and the unit
//! itself.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The daemon as systemd starts it; killed on drop.
struct Service {
    child: Child,
    socket: UnixDatagram,
    folder: tempfile::TempDir,
    seen: Vec<String>,
}

impl Service {
    fn start(cameras: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("retinad.toml");
        // No broker listens on port 1 of this machine.
        std::fs::write(&config, format!("node = \"n\"\n[mqtt]\nhost = \"127.0.0.1\"\nport = 1\n{cameras}"))
            .expect("written");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let stream = log.metadata().expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_retinad"))
            .current_dir(ROOT)
            .args(["run", "--config", &config.display().to_string()])
            .env("NOTIFY_SOCKET", folder.path().join("notify"))
            .env("WATCHDOG_USEC", "20000000")
            .env("JOURNAL_STREAM", format!("{}:{}", stream.dev(), stream.ino()))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starts");
        Self { child, socket, folder, seen: Vec::new() }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("the log")
    }

    /// Waits until the log holds `text`, and gives the log. The program writes it from a thread of its own, so
    /// a line may reach the file after what was told of the same moment.
    fn logged(&self, text: &str, seconds: u64) -> String {
        let until = Instant::now() + Duration::from_secs(seconds);
        while !self.log().contains(text) {
            assert!(Instant::now() < until, "no {text:?} in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.log()
    }

    /// The next line that it tells.
    fn told(&mut self, until: Instant) -> Option<String> {
        let mut datagram = [0; 4096];
        while Instant::now() < until {
            if let Ok(length) = self.socket.recv(&mut datagram) {
                let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
                self.seen.push(text.clone());
                return Some(text);
            }
        }
        None
    }

    /// Waits for a line that holds `text`.
    fn until(&mut self, text: &str, seconds: u64) -> String {
        let until = Instant::now() + Duration::from_secs(seconds);
        while let Some(told) = self.told(until) {
            if told.contains(text) {
                return told;
            }
        }
        panic!("no {text:?} in {seconds} s; told: {:?}\nlog:\n{}", self.seen, self.log());
    }

    fn signal(&self, name: &str) {
        assert!(
            Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("kill").success()
        );
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A thread that stands still until this is dropped, while the rest of its process runs. Only ptrace(2)
/// does that; Perl, which every Debian has, makes the two calls, because a crate for them would have every
/// dependency compiled anew for the tests.
struct StoppedThread(Child);

impl StoppedThread {
    /// PTRACE_SEIZE, PTRACE_INTERRUPT; the kernel lets the thread go on when Perl ends, which it does with
    /// its standard input.
    const STOP: &str = r#"
        $| = 1;
        my ($ptrace, $thread) = map { $_ + 0 } @ARGV;
        for my $request (0x4206, 0x4207) {
            syscall($ptrace, $request, $thread, 0, 0) == 0 or die "ptrace: $!\n";
        }
        print "stopped\n";
        <STDIN>;"#;
    /// Number of the system call.
    const PTRACE: u32 = if cfg!(target_arch = "aarch64") { 117 } else { 101 };

    /// `None`, with a clear word, where this system does not allow it.
    fn of(thread: u32) -> Option<Self> {
        let mut perl = Command::new("perl")
            .args(["-e", Self::STOP, &Self::PTRACE.to_string(), &thread.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("perl");
        let mut line = String::new();
        BufReader::new(perl.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let stopped = Self(perl);
        if line.trim() == "stopped" {
            return Some(stopped);
        }
        println!("SKIPPED: a thread of another process cannot be stopped here (kernel.yama.ptrace_scope)");
        None
    }
}

impl Drop for StoppedThread {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

const PICTURES: &str =
    "[cameras.album]\nkind = \"replay\"\npath = \"examples/pictures\"\nfps = 5\ntimeout_s = 1\n";

#[test]
fn ready_status_reload_and_stop_are_told() {
    let mut service = Service::start(PICTURES);
    service.until("READY=1", 30);
    service.logged("<6>started", 5);
    service.until("WATCHDOG=1", 5);
    let mut status = service.until("STATUS=", 10);
    while status.starts_with("STATUS=0.0") {
        status = service.until("STATUS=", 10);
    }
    assert!(status.contains("frames a second, 1 of 1 cameras online, broker not reachable"), "{status}");
    service.signal("-HUP");
    let reloading = service.until("RELOADING=1", 5);
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    service.until("READY=1", 5);
    service.signal("-TERM");
    service.until("STOPPING=1", 5);
    assert_eq!(service.child.wait().expect("ends").code(), Some(0));
}

#[test]
fn lines_for_the_journal_have_priorities_and_neither_time_nor_colour() {
    let mut service = Service::start(PICTURES);
    service.until("READY=1", 30);
    service.until("WATCHDOG=1", 5);
    service.logged("<6>camera gives frames camera=\"album\"", 5);
    let log = service.logged("<4>broker not reachable", 5);
    for line in log.lines() {
        let text = line
            .strip_prefix("<6>")
            .or_else(|| line.strip_prefix("<4>"))
            .unwrap_or_else(|| panic!("no priority: {line}"));
        assert!(text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.contains('\u{1b}'), "{line}");
    }
}

#[test]
fn an_absent_camera_leaves_the_service_ready_and_alive() {
    let mut service = Service::start("[cameras.gone]\ndevice = \"4242\"\n");
    service.until("READY=1", 30);
    service.until("0 of 1 cameras online", 5);
    for _ in 0..5 {
        service.until("WATCHDOG=1", 3);
    }
}

#[test]
fn the_watchdog_is_not_fed_while_a_frame_never_comes_out() {
    let mut service = Service::start(PICTURES);
    service.until("WATCHDOG=1", 30);
    let tasks = format!("/proc/{}/task", service.child.id());
    let worker = std::fs::read_dir(tasks).expect("threads").find_map(|entry| {
        let path = entry.expect("a thread").path();
        let mut name = String::new();
        std::fs::File::open(path.join("comm"))
            .and_then(|mut f| f.read_to_string(&mut name))
            .expect("its name");
        (name.trim() == "worker-0")
            .then(|| path.file_name().expect("its id").to_string_lossy().parse().expect("a number"))
    });
    let Some(stopped) = StoppedThread::of(worker.expect("a worker")) else { return };
    // 1 s of silence, 0.2 s between frames, 10 s of work; then the pings end though every other thread runs.
    let fed_until = Instant::now() + Duration::from_secs(14);
    while service.told(fed_until).is_some() {}
    let silent_until = Instant::now() + Duration::from_secs(4);
    while let Some(told) = service.told(silent_until) {
        assert!(!told.contains("WATCHDOG=1"), "fed while a worker hangs: {:?}", service.seen);
    }
    service.logged("<3>frames are taken and do not come out", 5);
    drop(stopped);
    service.until("WATCHDOG=1", 5);
}

#[test]
fn settings_that_cannot_be_used_end_with_78_and_one_line_for_the_journal() {
    let mut service = Service::start("[detector]\nmin_score = 7\n");
    assert_eq!(service.child.wait().expect("ends").code(), Some(78));
    let log = service.log();
    assert!(
        log.starts_with("<3>") && log.contains("retinad.toml:6: detector.min_score = 7 is not allowed"),
        "{log}"
    );
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(
        service.told(Instant::now() + Duration::from_millis(100)).is_none(),
        "never ready: {:?}",
        service.seen
    );
}

/// The unit is read by systemd itself, which knows every key, and its exposure stays where it is.
#[test]
fn the_unit_is_understood_and_exposed_at_most_1_5() {
    let unit = Path::new(ROOT).join("systemd/retinad.service");
    let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&unit).output();
    let Ok(security) = analyze(&["security", "--offline=true", "--threshold=15", "--no-pager"]) else {
        println!("SKIPPED: systemd-analyze is not installed");
        return;
    };
    let text =
        format!("{}{}", String::from_utf8_lossy(&security.stdout), String::from_utf8_lossy(&security.stderr));
    assert!(security.status.success() && text.contains("Overall exposure level"), "{text}");
    // In a root of its own, because the program must be there.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let units = folder.path().join("usr/lib/systemd/system");
    let programs = folder.path().join("usr/bin");
    for path in [&units, &programs, &folder.path().join("bin"), &folder.path().join("usr/share/retinad")] {
        std::fs::create_dir_all(path).expect("a folder");
    }
    for entry in std::fs::read_dir("/usr/lib/systemd/system").expect("systemd's units") {
        let path = entry.expect("a unit").path();
        if path.is_file() {
            std::fs::copy(&path, units.join(path.file_name().expect("a name"))).expect("copied");
        }
    }
    std::fs::copy(&unit, units.join("retinad.service")).expect("copied");
    std::fs::copy(env!("CARGO_BIN_EXE_retinad"), programs.join("retinad")).expect("copied");
    std::fs::copy("/bin/kill", folder.path().join("bin/kill")).expect("copied");
    let root = format!("--root={}", folder.path().display());
    let verify = Command::new("systemd-analyze")
        .args(["--man=no", &root, "verify", "--recursive-errors=one", "retinad.service"])
        .output()
        .expect("runs");
    let words = String::from_utf8_lossy(&verify.stderr).into_owned();
    // A misspelt key is only a warning.
    assert!(verify.status.success() && words.is_empty(), "{words}");
}
