//! TLS against a real Mosquitto, with certificates good and bad.

mod certificates;
mod log_lines;
mod mosquitto;
mod program;

use certificates::Certificates;
use mosquitto::{Broker, wait_for};
use retinad::publish::{Deadlines, PublishError, Publisher, PublisherOptions, Tls, TlsFiles, rehearse};
use retinad::secret::Secret;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A key of ours in the settings' words: the certificate's name, or empty.
fn tls(made: &Certificates, ca: &str, client: &str) -> Result<Tls, PublishError> {
    let file = |name: &str, end: &str| {
        if name.is_empty() { PathBuf::new() } else { made.path(&format!("{name}.{end}")) }
    };
    let (cert, key) = (file(client, "pem"), file(client, "key"));
    Tls::load(TlsFiles { ca: &file(ca, "pem"), client_cert: &cert, client_key: &key })
}

fn said(host: &str, port: u16, tls: Option<&Tls>) -> String {
    let options = PublisherOptions {
        host: host.to_owned(),
        port,
        credentials: None,
        base: "retinad".into(),
        node: "check".into(),
        cameras: Vec::new(),
        home_assistant: "homeassistant".into(),
        hears_home_assistant: false,
        tls: tls.cloned(),
        deadlines: Deadlines::default(),
    };
    let begun = Instant::now();
    let answer = rehearse(&options, false);
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    answer.map_or_else(
        |error| error.to_string(),
        |found| if found.refused.is_empty() { "ok".into() } else { found.refused.join(", ") },
    )
}

#[test]
fn certificates_good_and_bad_are_told_apart_in_words() {
    let Some(made) = Certificates::new() else { return };
    let names = "DNS:localhost,IP:127.0.0.1";
    made.issue("server", "ca", names);
    made.issue("elsewhere", "ca", "DNS:broker.example");
    made.issue("foreign", "other-ca", names);
    made.issue_for_days("expired", "ca", names, "20200101000000Z", "20200201000000Z");
    made.issue_for_days("early", "ca", names, "20980101000000Z", "20990101000000Z");
    made.issue("me", "ca", "DNS:pi");
    made.issue("stranger", "other-ca", "DNS:pi");
    made.issue_for_days("old-me", "ca", "DNS:pi", "20200101000000Z", "20200201000000Z");
    // Server's certificate, whether it asks for ours, ours, host, and what is said.
    let cases = [
        ("server", false, "", "localhost", "ok"),
        ("server", false, "", "127.0.0.1", "ok"),
        ("server", false, "me", "localhost", "ok"),
        ("server", true, "me", "localhost", "ok"),
        (
            "server",
            true,
            "",
            "localhost",
            "the broker asks for a certificate of ours; set mqtt.client_cert_file",
        ),
        ("server", true, "stranger", "localhost", "does not know the authority that signed our certificate"),
        ("server", true, "old-me", "localhost", "our certificate has expired"),
        ("expired", false, "", "localhost", "the broker's certificate has expired"),
        ("early", false, "", "localhost", "not valid yet; is this machine's clock right?"),
        (
            "foreign",
            false,
            "",
            "localhost",
            "signed by nobody who is believed; name its authority in mqtt.ca_file",
        ),
        ("elsewhere", false, "", "localhost", "is for another host than localhost"),
        ("elsewhere", false, "", "127.0.0.1", "is for another host than 127.0.0.1"),
        ("ca", false, "", "localhost", "is that of an authority"),
    ];
    for (server, asks, ours, host, wanted) in cases {
        let Some(broker) = Broker::start(&made.mosquitto(server, asks)) else { return };
        let tls = tls(&made, "ca", ours).expect("files are good");
        let said = said(host, broker.port, Some(&tls));
        assert!(said.contains(wanted), "{server} {asks} {ours} {host}: {said}");
        assert_eq!(said.lines().count(), 1);
    }
    // The system's authorities did not sign it.
    let Some(broker) = Broker::start(&made.mosquitto("server", false)) else { return };
    if let Ok(system) = tls(&made, "", "") {
        let said = said("localhost", broker.port, Some(&system));
        assert!(said.contains("signed by nobody who is believed"), "{said}");
    }
}

#[test]
fn a_port_that_speaks_the_other_way_is_named_as_such() {
    let Some(made) = Certificates::new() else { return };
    made.issue("server", "ca", "DNS:localhost");
    let tls = tls(&made, "ca", "").expect("files are good");
    let Some(plain) = Broker::start("") else { return };
    let Some(secure) = Broker::start(&made.mosquitto("server", false)) else { return };
    let Some(strict) = Broker::start(&made.mosquitto("server", true)) else { return };
    let wanted = "this port speaks MQTT without TLS; set mqtt.port to the broker's port with TLS";
    assert!(said("localhost", plain.port, Some(&tls)).contains(wanted));
    for broker in [&secure, &strict] {
        let said = said("localhost", broker.port, None);
        assert!(said.contains("this port speaks TLS; set mqtt.tls = true"), "{said}");
    }
}

#[test]
fn the_link_speaks_tls_and_takes_renewed_files_with_other_options() {
    let Some(made) = Certificates::new() else { return };
    made.issue("server", "ca", "DNS:localhost");
    made.issue("me", "ca", "DNS:pi");
    let Some(broker) = Broker::start(&made.mosquitto("server", true)) else { return };
    let options = |client: &str| PublisherOptions {
        host: "localhost".into(),
        port: broker.port,
        credentials: None,
        base: "retinad".into(),
        node: "n".into(),
        cameras: vec![Arc::from("front")],
        home_assistant: "homeassistant".into(),
        hears_home_assistant: false,
        tls: Some(tls(&made, "ca", client).expect("files are good")),
        deadlines: Deadlines::default(),
    };
    let publisher = Publisher::start(options("me"), &crossbeam_channel::unbounded().0).expect("starts");
    wait_for(5, "connected", || publisher.status().connected);
    // The same files again: nothing to do.
    publisher.reconnect(options("me"));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(publisher.status().counted.connects, 1);
    made.issue("me", "ca", "DNS:pi-renewed");
    publisher.reconnect(options("me"));
    wait_for(5, "connected anew", || {
        publisher.status().counted.connects == 2 && publisher.status().connected
    });
    assert_eq!(publisher.shutdown(Duration::from_secs(2)), 0);
}

#[test]
fn files_that_cannot_be_used_are_named_with_their_key() {
    let Some(made) = Certificates::new() else { return };
    made.issue("me", "ca", "DNS:pi");
    made.issue("you", "ca", "DNS:pi");
    made.openssl(&["pkey", "-in", "me.key", "-aes256", "-passout", "pass:geheim", "-out", "locked.key"]);
    made.openssl(&["x509", "-in", "ca.pem", "-outform", "DER", "-out", "der.pem"]);
    std::fs::write(made.path("words.pem"), "no certificate\n").expect("written");
    std::fs::write(made.path("cut.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n").expect("written");
    std::fs::write(made.path("large.pem"), vec![b'#'; 2 << 20]).expect("written");
    let load = |ca: &Path, cert: &Path, key: &Path| {
        let loaded = Tls::load(TlsFiles { ca, client_cert: cert, client_key: key });
        let error = loaded.expect_err("refused").to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(!error.contains("geheim"));
        error
    };
    let (ca, cert, key) = (made.path("ca.pem"), made.path("me.pem"), made.path("me.key"));
    let none = Path::new("");
    let cases = [
        (load(Path::new("/nowhere/ca.pem"), none, none), "mqtt.ca_file /nowhere/ca.pem: No such file"),
        (load(&made.path("words.pem"), none, none), "words.pem: holds no certificate in PEM form"),
        (load(&made.path("der.pem"), none, none), "it seems to be DER"),
        (load(&made.path("cut.pem"), none, none), "cut.pem: is damaged PEM"),
        (load(&made.path("large.pem"), none, none), "at most 1048576 are read"),
        (
            load(Path::new("/dev/zero"), none, none),
            "mqtt.ca_file /dev/zero: a device, must be a regular file",
        ),
        (load(&key, none, none), "holds no certificate, but a PEM section of another kind"),
        (load(&ca, &made.path("absent.pem"), &key), "mqtt.client_cert_file"),
        (load(&ca, &cert, &made.path("absent.key")), "mqtt.client_key_file"),
        (load(&ca, &cert, &made.path("locked.key")), "locked.key: is encrypted with a passphrase"),
        (load(&ca, &cert, &ca), "holds no private key, but a PEM section of another kind"),
        (load(&ca, &cert, &made.path("you.key")), "you.key: is not the key of"),
    ];
    for (error, wanted) in cases {
        assert!(error.contains(wanted), "{error}");
    }
}

/// Runs the program with these settings under `[mqtt]`.
fn run(command: &str, mqtt: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("r.toml");
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/pictures");
    let camera = format!("[cameras.a]\nkind = \"replay\"\npath = \"{}\"\n", pictures.display());
    std::fs::write(&file, format!("[mqtt]\n{mqtt}\n{camera}")).expect("written");
    let out = Command::new(env!("CARGO_BIN_EXE_retinad"))
        .arg(command)
        .arg("--config")
        .arg(&file)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("runs");
    (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
}

#[test]
fn check_and_watch_speak_tls_and_files_that_cannot_be_used_end_with_78() {
    let Some(made) = Certificates::new() else { return };
    made.issue("server", "ca", "DNS:localhost");
    let Some(broker) = Broker::start(&made.mosquitto("server", false)) else { return };
    let ca = made.path("ca.pem").display().to_string();
    let mqtt = format!("host = \"localhost\"\nport = {}\ntls = true\nca_file = \"{ca}\"", broker.port);
    let (code, text) = run("check", &mqtt);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("broker  ok  localhost:{} over TLS", broker.port)), "{text}");
    let absent = mqtt.replace("ca.pem", "absent.pem");
    for command in ["check", "watch", "run"] {
        let (code, text) = run(command, &absent);
        assert_eq!(code, Some(78), "{command}: {text}");
        assert!(text.contains("mqtt.ca_file") && text.contains("absent.pem: No such file"), "{text}");
    }
    let plain = format!("host = \"localhost\"\nport = {}", broker.port);
    let (code, text) = run("check", &plain);
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains("this port speaks TLS; set mqtt.tls = true"), "{text}");
}

#[test]
fn a_password_that_crosses_the_network_in_clear_is_warned_of_once() {
    let outward = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    });
    let Some(own) = outward.ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback()) else {
        println!("SKIPPED: this machine has no address but loopback");
        return;
    };
    log_lines::start();
    let outer = mosquitto::free_port();
    let Some(broker) = Broker::start(&format!("listener {outer} {own}")) else { return };
    let options = |host: &str, port: u16, password: &str| PublisherOptions {
        host: host.into(),
        port,
        credentials: Some(("pi".into(), Secret::new(password.into()))),
        base: "retinad".into(),
        node: "n".into(),
        cameras: Vec::new(),
        home_assistant: "homeassistant".into(),
        hears_home_assistant: false,
        tls: None,
        deadlines: Deadlines::default(),
    };
    let start = |options| Publisher::start(options, &crossbeam_channel::unbounded().0).expect("starts");
    const WARNING: &str = "the password crosses the network in clear";
    for harmless in [options("127.0.0.1", broker.port, "geheim"), options(&own.to_string(), outer, "")] {
        let publisher = start(harmless);
        wait_for(5, "connected", || publisher.status().connected);
    }
    assert_eq!(log_lines::logged(WARNING), 0);
    let publisher = start(options(&own.to_string(), outer, "geheim"));
    wait_for(5, "connected", || publisher.status().connected);
    let port = broker.kill();
    wait_for(5, "noticed", || !publisher.status().connected);
    let _broker = Broker::start_on(port, &format!("listener {outer} {own}")).expect("again");
    wait_for(10, "connected again", || publisher.status().connected);
    assert_eq!(log_lines::logged(WARNING), 1);
    assert_eq!(log_lines::logged("geheim"), 0);
}
