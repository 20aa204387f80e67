//! TLS to the broker: which authorities are believed, which certificate is ours, and what went wrong in
//! words. The host name is always checked.

use crate::publish::PublishError;
use crate::regular_file;
use sha2::{Digest, Sha256};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{PemObject, SectionKind};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error as RustlsError, RootCertStore,
};

/// Most bytes of a file of certificates or a key; the roots of a whole system have about 220 KB.
const MAX_FILE: u64 = 1 << 20;

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
            roots_of(&Source::read("mqtt.ca_file", files.ca, &mut digest)?)?
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| refused("mqtt.tls", Path::new(""), error.to_string()))?
            .with_root_certificates(roots);
        let config = if files.client_cert.as_os_str().is_empty() {
            config.with_no_client_auth()
        } else {
            let certificates = Source::read("mqtt.client_cert_file", files.client_cert, &mut digest)?;
            let key = Source::read("mqtt.client_key_file", files.client_key, &mut digest)?;
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
    bytes: Vec<u8>,
}

impl<'a> Source<'a> {
    fn read(key: &'static str, path: &'a Path, digest: &mut Sha256) -> Result<Self, PublishError> {
        let bytes =
            regular_file::read(path, MAX_FILE).map_err(|error| refused(key, path, error.to_string()))?;
        digest.update(key);
        digest.update(&bytes);
        Ok(Self { key, path, bytes })
    }

    fn refused(&self, reason: impl Into<String>) -> PublishError {
        refused(self.key, self.path, reason.into())
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PublishError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match found {
            Ok(found) if found.is_empty() => Err(self.refused(self.without("certificate"))),
            Ok(found) => Ok(found),
            Err(error) => Err(self.refused(format!("is damaged PEM: {error}"))),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, PublishError> {
        let text = String::from_utf8_lossy(&self.bytes);
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err(self.refused(
                "is encrypted with a passphrase, which nobody could type; store it without one \
                 (openssl pkey -in KEY -out KEY.plain) in a file of mode 0600",
            ));
        }
        let first = PrivateKeyDer::pem_slice_iter(&self.bytes).next();
        match first {
            Some(Ok(key)) => Ok(key),
            Some(Err(error)) => Err(self.refused(format!("is damaged PEM: {error}"))),
            None => Err(self.refused(self.without("private key"))),
        }
    }

    /// What to say of a file that holds none of what it should.
    fn without(&self, wanted: &str) -> String {
        // DER begins with a sequence.
        if self.bytes.starts_with(&[0x30]) {
            return format!(
                "holds no {wanted} in PEM form; it seems to be DER (openssl converts: -inform DER)"
            );
        }
        let found = <(SectionKind, Vec<u8>)>::pem_slice_iter(&self.bytes).next();
        match found {
            Some(Ok((kind, _))) => format!("holds no {wanted}, but a PEM section of another kind ({kind:?})"),
            _ => format!("holds no {wanted} in PEM form (-----BEGIN ...)"),
        }
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
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    for certificate in &found.certs {
        digest.update(certificate);
    }
    // A system may hold roots that nobody can read any more; the others are believed.
    let (taken, _) = roots.add_parsable_certificates(found.certs);
    if taken == 0 {
        let first = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        let reason = format!(
            "this system has no root certificates{first}; install ca-certificates, or set mqtt.ca_file"
        );
        return Err(refused("mqtt.tls", Path::new(""), reason));
    }
    Ok(roots)
}

/// The error of TLS in an error of a socket that speaks it.
pub(super) fn error_in(error: &std::io::Error) -> Option<&RustlsError> {
    error.get_ref()?.downcast_ref()
}

/// Whether the other side said nothing that TLS would say.
pub(super) fn is_no_tls(error: &std::io::Error) -> bool {
    match error_in(error) {
        Some(RustlsError::InvalidMessage(_)) => true,
        Some(_) => false,
        None => true,
    }
}

/// What went wrong between us and `host`, for people.
pub(super) fn in_words(error: &RustlsError, host: &str) -> String {
    use CertificateError as Bad;
    match error {
        RustlsError::InvalidCertificate(bad) => match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => {
                "the broker's certificate has expired (or this machine's clock is wrong)".into()
            }
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "the broker's certificate is not valid yet; is this machine's clock right?".into()
            }
            Bad::UnknownIssuer => "the broker's certificate is signed by nobody who is believed; \
                 name its authority in mqtt.ca_file"
                .into(),
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                format!("the broker's certificate is for another host than {host} ({bad})")
            }
            Bad::Other(_) if bad.to_string().contains("CaUsedAsEndEntity") => {
                "the broker's certificate is that of an authority; make it one of its own, signed by that \
                 authority"
                    .into()
            }
            other => format!("the broker's certificate is not good: {other}"),
        },
        RustlsError::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired => "the broker asks for a certificate of ours; \
                 set mqtt.client_cert_file and mqtt.client_key_file"
                .into(),
            AlertDescription::CertificateExpired => "the broker says that our certificate has expired".into(),
            AlertDescription::UnknownCA => {
                "the broker does not know the authority that signed our certificate \
                 (mqtt.client_cert_file)"
                    .into()
            }
            AlertDescription::BadCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnsupportedCertificate => {
                format!("the broker refuses our certificate or misses it ({alert:?})")
            }
            AlertDescription::HandshakeFailure => {
                "the broker ended the TLS handshake (no common cipher, or it misses a certificate of ours)"
                    .into()
            }
            other => format!("the broker ended TLS: {other:?}"),
        },
        other => format!("TLS: {other}"),
    }
}
