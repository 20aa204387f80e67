//! TLS to a camera. Most have certificates of their own making, so one that stands in `ca_file` itself is
//! trusted as it is; all others are checked against `ca_file` or the system's roots, by host name, too.

use crate::tls::{self, Peer, PemFile};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

const CA_KEY: &str = "ca_file";

/// What we trust: the certificates of `ca_file`, or the system's.
///
/// # Errors
/// In words, naming the file.
pub(super) fn config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let trusted = match ca_file {
        Some(path) => PemFile::read(path)
            .and_then(|file| file.certificates())
            .map_err(|reason| format!("{CA_KEY} {}: {reason}", path.display()))?,
        None => tls::system_roots(CA_KEY)?,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    if roots.is_empty() {
        let whose = ca_file.map_or("this system".into(), |path| format!("{CA_KEY} {}", path.display()));
        return Err(format!("{whose}: no certificate in it can be used"));
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

/// A failed handshake with the camera on `host`, for people.
pub(super) fn in_words(error: &std::io::Error, host: &str) -> String {
    let peer = Peer { name: "the camera", host, ca_key: CA_KEY, pins: true, own: None };
    match tls::error_in(error) {
        Some(tls_error) if tls::is_no_tls(error) => {
            format!("{}; an http:// address may be right", peer.in_words(tls_error))
        }
        Some(error) => peer.in_words(error),
        None => format!("TLS: {error}"),
    }
}
