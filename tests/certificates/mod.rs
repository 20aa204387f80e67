//! Certificates made for a test by the openssl command.

#![allow(dead_code, reason = "each test program uses a part of this")]

use std::path::PathBuf;
use std::process::Command;

/// What a new key is.
const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/// A folder with two authorities, `ca` and `other-ca`, and what they signed: `NAME.pem` and `NAME.key`.
pub struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// None, with a clear word, where openssl is not installed.
    pub fn new() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            println!("SKIPPED: openssl is not installed (apt-get install openssl)");
            return None;
        }
        let made = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        std::fs::create_dir(made.path("issued")).expect("a folder");
        for name in ["ca", "other-ca"] {
            let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
            let subject = format!("/CN=Test {name}");
            let rest = ["-days", "30", "-keyout", &key, "-out", &certificate, "-subj", &subject];
            made.openssl(&[&["req", "-x509"], &NEW_KEY[..], &rest].concat());
        }
        Some(made)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn openssl(&self, arguments: &[&str]) {
        let mut openssl = Command::new("openssl");
        let done = openssl.args(arguments).current_dir(self.folder.path()).output().expect("openssl");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// A certificate for these alternative names (`DNS:localhost,IP:127.0.0.1`).
    pub fn issue(&self, name: &str, authority: &str, names: &str) {
        self.issue_for_days(name, authority, names, "20200101000000Z", "20991231000000Z");
    }

    /// As `issue`, for a time (`YYYYMMDDHHMMSSZ`).
    pub fn issue_for_days(&self, name: &str, authority: &str, names: &str, from: &str, to: &str) {
        let file = |end: &str| format!("{name}.{end}");
        let (key, request, certificate) = (file("key"), file("csr"), file("pem"));
        let subject = format!("/CN={name}");
        let rest = ["-keyout", &key, "-out", &request, "-subj", &subject];
        self.openssl(&[&["req"], &NEW_KEY[..], &rest].concat());
        let config = format!(
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index-{name}\nserial=serial-{name}\nnew_certs_dir=issued\n\
             default_md=sha256\npolicy=p\nx509_extensions=x\n[p]\ncommonName=supplied\n\
             [x]\nbasicConstraints=CA:FALSE\nsubjectAltName={names}\n"
        );
        std::fs::write(self.path("ca.cnf"), config).expect("written");
        std::fs::write(self.path(&format!("index-{name}")), "").expect("written");
        std::fs::write(self.path(&format!("serial-{name}")), "01\n").expect("written");
        let (signer, signing_key) = (format!("{authority}.pem"), format!("{authority}.key"));
        let signed =
            ["ca", "-batch", "-config", "ca.cnf", "-notext", "-cert", &signer, "-keyfile", &signing_key];
        let rest = ["-in", &request, "-out", &certificate, "-startdate", from, "-enddate", to];
        self.openssl(&[&signed[..], &rest].concat());
    }

    /// Lines for Mosquitto's configuration: TLS with this certificate.
    pub fn mosquitto(&self, certificate: &str, asks_for_ours: bool) -> String {
        let file = |name: &str| self.path(name).display().to_string();
        format!(
            "cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate {asks_for_ours}",
            file("ca.pem"),
            file(&format!("{certificate}.pem")),
            file(&format!("{certificate}.key"))
        )
    }
}
