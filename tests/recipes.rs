//! Every program of `docs/recipes.md`, as it stands there, against a real Mosquitto with logins and TLS and the
//! daemon on the demo pictures. Only the broker's address and login and an event's id are put in.
//! Python is the one into which `make test` puts paho-mqtt and aiomqtt, or `python3`.

mod certificates;
mod mosquitto;
mod program;

use certificates::Certificates;
use mosquitto::{Broker, free_port};
use program::{Daemon, ROOT, coming_and_going, config, folder};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Longest time until a program has done what it says, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);
const USER: &str = "homeassistant";
const PASSWORD: &str = "secret";
/// The event's id on the page.
const EVENT: &str = "01KB9N5QF3W6Y8R2T4V6X8Z0B2";
/// Chapters with programs, in their order; each has one for the shell and one for each library of Python.
const CHAPTERS: [&str; 6] = [
    "How many people are there?",
    "Who came, with a picture in a file",
    "That was a false alarm",
    "Ask for more certainty",
    "Take a picture",
    "Is everything well?",
];

/// Who runs a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runner {
    Shell,
    Paho,
    Aiomqtt,
}

/// A program of the page.
struct Recipe {
    chapter: String,
    runner: Runner,
    text: String,
}

fn page() -> String {
    std::fs::read_to_string(Path::new(ROOT).join("docs/recipes.md")).expect("docs/recipes.md")
}

fn recipes() -> Vec<Recipe> {
    let page = page();
    let mut found = Vec::new();
    for chapter in page.split("\n## ").skip(1) {
        let title = chapter.lines().next().unwrap_or_default();
        for block in chapter.split("\n```").skip(1).step_by(2) {
            let (language, text) = block.split_once('\n').expect("lines");
            let runner = match (language, text.lines().next()) {
                ("sh", _) => Runner::Shell,
                ("python", Some("# paho-mqtt")) => Runner::Paho,
                ("python", Some("# aiomqtt")) => Runner::Aiomqtt,
                // The options, which `write_options` makes.
                ("", _) => continue,
                other => panic!("{title}: nobody runs {other:?}"),
            };
            found.push(Recipe { chapter: title.to_owned(), runner, text: text.to_owned() });
        }
    }
    found
}

/// A broker with logins and TLS, the daemon, and a folder for programs and what they write.
struct Site {
    _daemon: Daemon,
    _broker: Broker,
    folder: tempfile::TempDir,
    tls_port: u16,
    ca: PathBuf,
    _certificates: Certificates,
}

impl Site {
    /// None, with a clear word, where something is not installed.
    fn start() -> Option<Self> {
        for name in ["mosquitto_sub", "mosquitto_rr", "mosquitto_passwd", "jq", "basenc"] {
            if Command::new(name).arg("--help").output().is_err() {
                println!("SKIPPED: {name} is not installed (apt-get install mosquitto mosquitto-clients jq)");
                return None;
            }
        }
        let certificates = Certificates::new()?;
        certificates.issue("server", "ca", "DNS:localhost");
        let (folder, tls_port) = (folder(), free_port());
        let passwords = folder.path().join("passwords");
        for (user, how) in [(USER, &["-b", "-c"][..]), ("n", &["-b"])] {
            let mut command = Command::new("mosquitto_passwd");
            assert!(
                command.args(how).arg(&passwords).args([user, PASSWORD]).status().expect("run").success()
            );
        }
        let path = |name: &str| certificates.path(name).display().to_string();
        let broker = Broker::start(&format!(
            "password_file {}\nlistener {tls_port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\n",
            passwords.display(),
            path("ca.pem"),
            path("server.pem"),
            path("server.key")
        ))?;
        let daemon = Daemon::start(&settings(folder.path(), broker.port));
        daemon.logged("connected to the broker", PATIENCE.as_secs());
        let site = Self {
            _daemon: daemon,
            _broker: broker,
            tls_port,
            ca: certificates.path("ca.pem"),
            _certificates: certificates,
            folder,
        };
        site.write_options();
        assert_eq!(site.hears("retinad/pi-porch/status"), "online");
        Some(site)
    }

    /// The files of options, made as the page's first block says, with the lines for TLS.
    fn write_options(&self) {
        let page = page();
        let block = page.split("\n```").nth(1).expect("a block");
        let (login, tls) = ("'-h broker.lan' '-u homeassistant' '-P secret'", "'-p 8883' '--cafile ");
        assert!(block.contains(login), "{block}");
        assert!(page.contains("`-p 8883` and `--cafile /etc/mosquitto/ca.pem`"), "the lines for TLS");
        let mine =
            login.replace("broker.lan", "localhost") + " " + tls + &self.ca.display().to_string() + "'";
        let text = block.replace(login, &mine).replace("8883", &self.tls_port.to_string());
        assert!(self.command("sh").args(["-ec", &text]).status().expect("sh").success());
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.path();
        command
            .current_dir(folder)
            .env("HOME", folder)
            .env_remove("XDG_CONFIG_HOME")
            .env("PYTHONUNBUFFERED", "1");
        command
    }

    /// The next message on a topic, a kept one for one.
    fn hears(&self, topic: &str) -> String {
        let seconds = PATIENCE.as_secs().to_string();
        let mut command = self.command("mosquitto_sub");
        let out = command.args(["-C", "1", "-W", &seconds, "-t", topic]).output().expect("mosquitto_sub");
        assert!(out.status.success(), "{topic}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// The program with this site's broker in it.
    fn fitted(&self, recipe: &Recipe) -> String {
        let (port, ca, text) = (self.tls_port, self.ca.display(), &recipe.text);
        let broker = "BROKER = {\"hostname\": \"localhost\", \"port\": 1883}";
        let connect = "client.connect(\"localhost\", 1883)";
        if recipe.runner == Runner::Shell {
            return text.clone();
        }
        let login = match recipe.runner {
            Runner::Paho => format!(
                "\"auth\": {{\"username\": \"{USER}\", \"password\": \"{PASSWORD}\"}}, \"tls\": {{\"ca_certs\": \"{ca}\"}}"
            ),
            _ => format!(
                "\"username\": \"{USER}\", \"password\": \"{PASSWORD}\", \
                 \"tls_params\": aiomqtt.TLSParameters(ca_certs=\"{ca}\")"
            ),
        };
        let mine = format!("BROKER = {{\"hostname\": \"localhost\", \"port\": {port}, {login}}}");
        let connected = format!(
            "client.username_pw_set(\"{USER}\", \"{PASSWORD}\")\nclient.tls_set(\"{ca}\")\n\
             client.connect(\"localhost\", {port})"
        );
        assert!(text.contains(broker) != text.contains(connect), "{}: one way to the broker", recipe.chapter);
        text.replace(broker, &mine).replace(connect, &connected)
    }

    /// Runs a program until a line of its satisfies, or it ends; all of its lines.
    fn run(&self, recipe: &Recipe, text: &str, satisfies: impl Fn(&str) -> bool) -> String {
        let file = self.folder.path().join("recipe");
        std::fs::write(&file, text).expect("written");
        let runner = if recipe.runner == Runner::Shell { PathBuf::from("sh") } else { python() };
        let mut child = (self.command(runner).arg(&file))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("started");
        let (to, lines) = channel();
        for pipe in [
            Box::new(child.stdout.take().expect("piped")) as Box<dyn std::io::Read + Send>,
            Box::new(child.stderr.take().expect("piped")),
        ] {
            let to = to.clone();
            std::thread::spawn(move || {
                let _ = BufReader::new(pipe).lines().map_while(Result::ok).try_for_each(|line| to.send(line));
            });
        }
        drop(to);
        let (until, mut said) = (Instant::now() + PATIENCE, String::new());
        let satisfied = loop {
            match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    said.push_str(&format!("{line}\n"));
                    if satisfies(&line) {
                        break true;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break child.wait().expect("ended").success(),
                Err(RecvTimeoutError::Timeout) => break false,
            }
        };
        // The shell's programs have children of their own.
        let _ = Command::new("kill").args(["--", &format!("-{}", child.id())]).stderr(Stdio::null()).status();
        child.wait().expect("ended");
        assert!(satisfied, "{} ({:?}) said:\n{said}", recipe.chapter, recipe.runner);
        said
    }

    /// A picture that a program wrote, which is taken away.
    fn takes_picture(&self, name: &str) {
        let file = self.folder.path().join(name);
        let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            bytes.starts_with(&[0xff, 0xd8]) && bytes.ends_with(&[0xff, 0xd9]),
            "{name} is no whole JPEG"
        );
        std::fs::remove_file(file).expect("removed");
    }

    fn tries(&self, recipe: &Recipe) {
        let text = self.fitted(recipe);
        match recipe.chapter.as_str() {
            "How many people are there?" => {
                self.run(recipe, &text, |line| line == "retinad/pi-porch/front/person: 1");
            }
            "Who came, with a picture in a file" => {
                let said = self.run(recipe, &text, |line| line.ends_with(".jpg"));
                let (label, file) = said.trim().split_once(": ").expect("label and file");
                assert!(!label.is_empty(), "{said}");
                self.takes_picture(file);
            }
            "That was a false alarm" => {
                let event: serde_json::Value =
                    serde_json::from_str(&self.hears("retinad/pi-porch/front/events")).expect("JSON");
                assert!(text.contains(EVENT), "an event's id");
                let said =
                    self.run(recipe, &text.replace(EVENT, event["id"].as_str().expect("an id")), |_| false);
                let answer: serde_json::Value = serde_json::from_str(&said).expect("one line of JSON");
                assert_eq!(
                    (&answer["status"], &answer["data"]["stored"]),
                    (&"ok".into(), &true.into()),
                    "{said}"
                );
            }
            "Ask for more certainty" => {
                self.run(recipe, &text, |_| false);
                let wanted = ["0.6", "0.65", "0.55"][recipe.runner as usize];
                assert!(text.contains(wanted), "{wanted}");
                let until = Instant::now() + PATIENCE;
                while self.hears("retinad/pi-porch/front/threshold/state").trim_end_matches('0') != wanted {
                    assert!(Instant::now() < until, "the threshold is not {wanted}");
                }
            }
            "Take a picture" => {
                self.run(recipe, &text, |_| false);
                self.takes_picture("front.jpg");
            }
            "Is everything well?" => {
                let said = self.run(recipe, &text, |line| line == "retinad/pi-porch/bridge/health: ok ");
                assert!(said.contains("retinad/pi-porch/status: online\n"), "{said}");
            }
            other => panic!("nobody tries {other}"),
        }
    }
}

/// Settings of a daemon as which the page speaks; objects come and go.
fn settings(folder: &Path, port: u16) -> PathBuf {
    let password = folder.join("password");
    std::fs::write(&password, PASSWORD).expect("written");
    std::fs::set_permissions(&password, std::fs::Permissions::from_mode(0o600)).expect("for its owner only");
    let camera = coming_and_going(folder, "front");
    let more = format!(
        "username = \"n\"\npassword_file = {password:?}\noff_delay_s = 0.2\n[snapshots]\nenabled = true\n\
         [samples]\nenabled = true\n{camera}"
    );
    let file = config(folder, port, &more);
    let text = std::fs::read_to_string(&file).expect("settings");
    std::fs::write(&file, text.replacen("node = \"n\"", "node = \"pi-porch\"", 1)).expect("written");
    file
}

fn python() -> PathBuf {
    let own = Path::new(ROOT).join("target/recipes/bin/python3");
    if own.exists() { own } else { "python3".into() }
}

/// Whether Python has the library; a clear word where not.
fn has(library: &str, package: &str) -> bool {
    let imports = Command::new(python()).args(["-c", &format!("import {library}")]).output();
    let has = imports.is_ok_and(|out| out.status.success());
    if !has {
        println!("SKIPPED: Python has no {package} (pip install {package})");
    }
    has
}

fn try_all(runner: Runner) {
    let Some(site) = Site::start() else { return };
    for recipe in recipes().iter().filter(|recipe| recipe.runner == runner) {
        site.tries(recipe);
    }
}

#[test]
fn each_chapter_has_a_program_for_the_shell_and_for_each_library() {
    let found: Vec<(String, Runner)> = recipes().into_iter().map(|it| (it.chapter, it.runner)).collect();
    let runners = [Runner::Shell, Runner::Paho, Runner::Aiomqtt];
    let wanted = CHAPTERS.iter().flat_map(|chapter| runners.map(|runner| ((*chapter).to_owned(), runner)));
    assert_eq!(found, wanted.collect::<Vec<_>>());
}

#[test]
fn the_programs_for_the_shell_do_what_they_say() {
    try_all(Runner::Shell);
}

#[test]
fn the_programs_for_paho_do_what_they_say() {
    if has("paho.mqtt.subscribe", "paho-mqtt") {
        try_all(Runner::Paho);
    }
}

#[test]
fn the_programs_for_aiomqtt_do_what_they_say() {
    if has("aiomqtt", "aiomqtt") {
        try_all(Runner::Aiomqtt);
    }
}
