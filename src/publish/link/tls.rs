//! TLS to the broker: which authorities are believed and which certificate is ours. The host name is always
//! checked.

use crate::publish::PublishError;
use crate::tls::{self, Peer, PemFile};
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, Error as RustlsError, RootCertStore};

const CA_KEY: &str = "mqtt.ca_file";
const CERTIFICATE_KEY: &str = "mqtt.client_cert_file";
const PRIVATE_KEY_KEY: &str = "mqtt.client_key_file";

/// The files that the settings name; an empty path is not set.
#[derive(Debug, Clone, Copy)]
pub struct TlsFiles<'a> {
    /// Certificates of the authorities that are believed, PEM; without it the system's.
    pub ca: &'a Path,
    /// Our certificate, with those that lead from it to an authority, PEM.
    pub client_cert: &'a Path,
    /// The key of our certificate, PEM without a passphrase.
    pub client_key: &'a Path,
}

/// How TLS is spoken: ready to use, read from its files once.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    /// Of all that was read, so that files that were renewed differ.
    digest: [u8; 32],
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`PublishError::Tls`] names the key of the settings and the file.
    pub fn load(files: TlsFiles<'_>) -> Result<Self, PublishError> {
        let mut digest = Sha256::new();
        let roots = if files.ca.as_os_str().is_empty() {
            system_roots(&mut digest)?
        } else {
            roots_of(&Source::read(CA_KEY, files.ca, &mut digest)?)?
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused("mqtt.tls", Path::new(""), error.to_string()))?
            .with_root_certificates(roots);
        let config = if files.client_cert.as_os_str().is_empty() {
            config.with_no_client_auth()
        } else {
            let certificates = Source::read(CERTIFICATE_KEY, files.client_cert, &mut digest)?;
            let key = Source::read(PRIVATE_KEY_KEY, files.client_key, &mut digest)?;
            config.with_client_auth_cert(certificates.certificates()?, key.key()?).map_err(|error| {
                let reason = match error {
                    RustlsError::InconsistentKeys(_) => {
                        format!("is not the key of {}", files.client_cert.display())
                    }
                    other => other.to_string(),
                };
                key.refused(reason)
            })?
        };
        Ok(Self { config: Arc::new(config), digest: digest.finalize().into() })
    }

    /// TLS that believes nobody: enough to see whether somebody speaks it.
    pub(super) fn of_a_sceptic() -> Option<Self> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Some(Self { config: Arc::new(config), digest: [0; 32] })
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

/// A file that was read, and the key that names it.
struct Source<'a> {
    key: &'static str,
    path: &'a Path,
    file: PemFile,
}

impl<'a> Source<'a> {
    fn read(key: &'static str, path: &'a Path, digest: &mut Sha256) -> Result<Self, PublishError> {
        let file = PemFile::read(path).map_err(|reason| refused(key, path, reason))?;
        digest.update(key);
        digest.update(file.bytes());
        Ok(Self { key, path, file })
    }

    fn refused(&self, reason: impl Into<String>) -> PublishError {
        refused(self.key, self.path, reason.into())
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PublishError> {
        self.file.certificates().map_err(|reason| self.refused(reason))
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, PublishError> {
        self.file.key().map_err(|reason| self.refused(reason))
    }
}

fn refused(key: &'static str, path: &Path, reason: String) -> PublishError {
    PublishError::Tls { key, path: path.display().to_string(), reason }
}

fn roots_of(source: &Source<'_>) -> Result<RootCertStore, PublishError> {
    let mut roots = RootCertStore::empty();
    for certificate in source.certificates()? {
        roots
            .add(certificate)
            .map_err(|error| source.refused(format!("holds a broken certificate: {error}")))?;
    }
    Ok(roots)
}

fn system_roots(digest: &mut Sha256) -> Result<RootCertStore, PublishError> {
    let none = |reason| refused("mqtt.tls", Path::new(""), reason);
    let found = tls::system_roots(CA_KEY).map_err(none)?;
    for certificate in &found {
        digest.update(certificate);
    }
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(found).0 == 0 {
        return Err(none("none of this system's root certificates can be used".into()));
    }
    Ok(roots)
}

/// What went wrong between us and the broker on `host`, for people.
pub(super) fn in_words(error: &RustlsError, host: &str) -> String {
    let own = Some((CERTIFICATE_KEY, PRIVATE_KEY_KEY));
    Peer { name: "the broker", host, ca_key: CA_KEY, pins: false, own }.in_words(error)
}
