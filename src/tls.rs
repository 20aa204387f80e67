//! What TLS to a broker and to a camera have in common: files of certificates and keys, the system's roots,
//! and what went wrong in words. Who is believed is decided where the connection is made.

use crate::regular_file;
use std::path::Path;
use tokio_rustls::rustls::pki_types::pem::{PemObject, SectionKind};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{AlertDescription as Alert, CertificateError as Bad, Error};

/// Most bytes of a file of certificates or a key; the roots of a whole system have about 220 KB.
const MAX_FILE: u64 = 1 << 20;

/// A file of certificates or of a key, in PEM form.
pub(crate) struct PemFile {
    bytes: Vec<u8>,
}

impl PemFile {
    /// Reads a regular file of at most 1 MiB.
    ///
    /// # Errors
    /// Why not, without the file's name.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let bytes = regular_file::read(path, MAX_FILE).map_err(|error| error.to_string())?;
        Ok(Self { bytes })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its certificates, one at least.
    ///
    /// # Errors
    /// What it holds instead.
    pub(crate) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        match found {
            Ok(found) if found.is_empty() => Err(self.without("certificate")),
            Ok(found) => Ok(found),
            Err(error) => Err(format!("is damaged PEM: {error}")),
        }
    }

    /// Its first private key.
    ///
    /// # Errors
    /// What it holds instead, or that a passphrase would be needed.
    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let text = String::from_utf8_lossy(&self.bytes);
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err("is encrypted with a passphrase, which nobody could type; store it without one \
                        (openssl pkey -in KEY -out KEY.plain) in a file of mode 0600"
                .into());
        }
        match PrivateKeyDer::pem_slice_iter(&self.bytes).next() {
            Some(Ok(key)) => Ok(key),
            Some(Err(error)) => Err(format!("is damaged PEM: {error}")),
            None => Err(self.without("private key")),
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
        match <(SectionKind, Vec<u8>)>::pem_slice_iter(&self.bytes).next() {
            Some(Ok((kind, _))) => format!("holds no {wanted}, but a PEM section of another kind ({kind:?})"),
            _ => format!("holds no {wanted} in PEM form (-----BEGIN ...)"),
        }
    }
}

/// The certificates that the system believes, one at least; `ca_key` is the setting that could name others.
///
/// # Errors
/// That there is none, and what to do.
pub(crate) fn system_roots(ca_key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    // A system may hold roots that nobody can read any more; the others are believed.
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let first = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "this system has no root certificates{first}; install ca-certificates, or set {ca_key}"
        ));
    }
    Ok(found.certs)
}

/// The error of TLS in an error of a socket that speaks it.
pub(crate) fn error_in(error: &std::io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether the other side said nothing that TLS would say.
pub(crate) fn is_no_tls(error: &std::io::Error) -> bool {
    error_in(error).is_none_or(|error| matches!(error, Error::InvalidMessage(_)))
}

/// The other side, as errors name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer<'a> {
    /// Such as `the broker`.
    pub name: &'a str,
    /// The host whose certificate it should have.
    pub host: &'a str,
    /// The setting that names the certificates to believe.
    pub ca_key: &'a str,
    /// Whether the peer's own certificate may stand there, too, and is then believed for any host.
    pub pins: bool,
    /// The settings of our own certificate and its key; none where we never have one.
    pub own: Option<(&'a str, &'a str)>,
}

impl Peer<'_> {
    /// What went wrong between us, for people.
    pub(crate) fn in_words(&self, error: &Error) -> String {
        let name = self.name;
        match error {
            Error::InvalidCertificate(bad) => self.of_its_certificate(bad),
            Error::InvalidMessage(_) => format!("{name} speaks no TLS at this port"),
            Error::AlertReceived(Alert::ProtocolVersion) => {
                format!("{name} speaks only TLS before 1.2, which is not safe")
            }
            Error::AlertReceived(alert) => self.of_ours(*alert),
            other => format!("TLS: {other}"),
        }
    }

    fn of_its_certificate(&self, bad: &Bad) -> String {
        let Self { name, host, ca_key, .. } = self;
        // Certificates of their own making say that they are an authority, which a server's must not be.
        let own_authority = matches!(bad, Bad::Other(_)) && bad.to_string().contains("CaUsedAsEndEntity");
        match bad {
            Bad::Expired | Bad::ExpiredContext { .. } => {
                format!("{name}'s certificate has expired (or this machine's clock is wrong)")
            }
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                format!("{name}'s certificate is not valid yet; is this machine's clock right?")
            }
            Bad::UnknownIssuer if !self.pins => format!(
                "{name}'s certificate is signed by nobody who is believed; name its authority in {ca_key}"
            ),
            _ if self.pins && (own_authority || *bad == Bad::UnknownIssuer) => {
                format!("{name}'s certificate is not trusted; put it into a file and name that in {ca_key}")
            }
            _ if own_authority => format!(
                "{name}'s certificate is that of an authority; make it one of its own, signed by that \
                 authority"
            ),
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => {
                let pin =
                    if self.pins { format!("; put it into {ca_key} if it is right") } else { "".into() };
                format!("{name}'s certificate is for another host than {host} ({bad}){pin}")
            }
            other => format!("{name}'s certificate is not good: {other}"),
        }
    }

    /// What a server says of our certificate, or for want of one.
    fn of_ours(&self, alert: Alert) -> String {
        let name = self.name;
        match (alert, self.own) {
            (Alert::CertificateRequired, Some((certificate, key))) => {
                format!("{name} asks for a certificate of ours; set {certificate} and {key}")
            }
            (Alert::CertificateRequired, None) => {
                format!(
                    "{name} asks for a certificate of ours, which it cannot be given; switch that off there"
                )
            }
            (Alert::CertificateExpired, Some(_)) => format!("{name} says that our certificate has expired"),
            (Alert::UnknownCA, Some((certificate, _))) => {
                format!("{name} does not know the authority that signed our certificate ({certificate})")
            }
            (
                Alert::BadCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateUnknown
                | Alert::UnsupportedCertificate,
                Some(_),
            ) => format!("{name} refuses our certificate or misses it ({alert:?})"),
            (Alert::HandshakeFailure, _) => format!(
                "{name} ended the TLS handshake (no common cipher, or it misses a certificate of ours)"
            ),
            (other, _) => format!("{name} ended TLS: {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: Peer<'static> = Peer {
        name: "the broker",
        host: "broker.lan",
        ca_key: "mqtt.ca_file",
        pins: false,
        own: Some(("mqtt.client_cert_file", "mqtt.client_key_file")),
    };
    const CAMERA: Peer<'static> =
        Peer { name: "the camera", host: "10.0.0.9", ca_key: "ca_file", pins: true, own: None };

    #[test]
    fn each_side_is_named_with_what_can_be_done_about_it() {
        let certificate = Error::InvalidCertificate;
        for (error, of_broker, of_camera) in [
            (certificate(Bad::Expired), "has expired", "has expired"),
            (certificate(Bad::NotValidYet), "this machine's clock", "this machine's clock"),
            (certificate(Bad::UnknownIssuer), "name its authority in mqtt.ca_file", "name that in ca_file"),
            (certificate(Bad::NotValidForName), "another host than broker.lan", "put it into ca_file"),
            (certificate(Bad::Revoked), "is not good", "is not good"),
            (
                Error::AlertReceived(Alert::CertificateRequired),
                "set mqtt.client_cert_file",
                "switch that off",
            ),
            (Error::AlertReceived(Alert::UnknownCA), "(mqtt.client_cert_file)", "UnknownCA"),
            (Error::AlertReceived(Alert::ProtocolVersion), "before 1.2", "before 1.2"),
        ] {
            for (peer, wanted) in [(BROKER, of_broker), (CAMERA, of_camera)] {
                let words = peer.in_words(&error);
                assert!(words.starts_with(peer.name) && words.contains(wanted), "{words}");
                assert_eq!(words.lines().count(), 1, "{words}");
            }
            assert!(!CAMERA.in_words(&error).contains("mqtt."), "a camera's certificate is none of MQTT's");
        }
    }
}
