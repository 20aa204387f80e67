//! TLS to a camera. Most have certificates of their own making, so one that stands in `ca_file` itself is
//! trusted as it is; all others are checked against `ca_file` or the system's roots, by host name, too.

use crate::regular_file;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};

/// Most bytes of a file of certificates; the roots of a whole system have about 220 KB.
const MOST_BYTES: u64 = 1 << 20;

/// What we trust: the certificates of `ca_file`, or the system's.
///
/// # Errors
/// In words, naming the file.
pub(super) fn config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let trusted = match ca_file {
        Some(path) => of_file(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    if roots.is_empty() {
        return Err(match ca_file {
            Some(path) => format!("ca_file {}: no certificate in it can be used", path.display()),
            None => {
                "this system has no certificates to trust (package ca-certificates); or set ca_file".into()
            }
        });
    }
    let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|e| e.to_string())?;
    // The system's certificates are authorities; only what the settings name is trusted as it stands.
    let pinned = if ca_file.is_some() { trusted } else { Vec::new() };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let verifier = Arc::new(Pinned { pinned, usual, provider });
    Ok(Arc::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

fn of_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bad = |reason: String| format!("ca_file {}: {reason}", path.display());
    let bytes = regular_file::read(path, MOST_BYTES).map_err(|error| bad(error.to_string()))?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| bad(error.to_string()))?;
    if certificates.is_empty() {
        return Err(bad("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".into()));
    }
    Ok(certificates)
}

/// Trusts certificates that are known one by one, and checks all others as usual.
#[derive(Debug)]
struct Pinned {
    pinned: Vec<CertificateDer<'static>>,
    usual: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.pinned.iter().any(|known| known.as_ref() == certificate.as_ref()) {
            return Ok(ServerCertVerified::assertion());
        }
        self.usual.verify_server_cert(certificate, between, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

const NOT_TRUSTED: &str = "its certificate is not trusted: put it into a file and name that as ca_file";

/// A failed handshake, for people.
pub(super) fn words(error: &std::io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return format!("TLS: {error}");
    };
    // Certificates of their own making say that they are an authority, which a server's must not be.
    let self_made = |error: &CertificateError| error.to_string().contains("CaUsedAsEndEntity");
    match tls {
        Error::InvalidCertificate(error) if self_made(error) => NOT_TRUSTED.into(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => NOT_TRUSTED.into(),
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired (or the clock of one of the two is wrong)".into()
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another host name: use that name, or put the certificate into ca_file"
            .into(),
        Error::InvalidMessage(_) => "speaks no TLS there: an http:// address may be right".into(),
        Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "speaks only TLS before 1.2, which is not safe".into()
        }
        other => format!("TLS: {other}"),
    }
}
