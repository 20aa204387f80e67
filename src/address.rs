//! The address of a camera: `http://` or `https://`, with user and password, an IPv6 host, any legal path.

use crate::secret::{Secret, is_secret_name, remember};
use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// An address that HTTP can be spoken to. Its `Display` and `Debug` show neither user, password nor query.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpAddress(Url);

/// Why a text is no address that can be used. It does not repeat the text, which may hold a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AddressError {
    /// It cannot be read at all.
    #[error(
        "not an address ({0}); in a password write `/` as %2F, `#` as %23, `?` as %3F, `@` as %40, `%` as %25"
    )]
    Syntax(String),
    /// Another protocol.
    #[error(
        "the address is {0}://, and only http:// and https:// are read; for RTSP and others use `command` with ffmpeg"
    )]
    Scheme(String),
}

impl HttpAddress {
    /// Reads an address.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(AddressError::Syntax("it holds spaces or control characters".into()));
        }
        let url = Url::parse(text).map_err(|error| AddressError::Syntax(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(AddressError::Scheme(url.scheme().chars().take(20).collect()));
        }
        url.password().map(remember);
        for (name, value) in url.query_pairs() {
            if is_secret_name(&name) {
                remember(&value);
            }
        }
        Ok(Self(url))
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// The host's name, or its address without brackets.
    #[must_use]
    pub fn host(&self) -> String {
        match self.0.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        }
    }

    /// The port, also where it is the usual one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(80)
    }

    /// What the `Host` header says: the usual port is left out.
    #[must_use]
    pub fn host_header(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        self.0.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Path and query, as a request asks for them.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        self.0.query().map_or_else(|| self.0.path().to_owned(), |query| format!("{}?{query}", self.0.path()))
    }

    /// User and password as they are meant, not as they are written.
    #[must_use]
    pub fn credentials(&self) -> Option<(String, Secret)> {
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let (user, password) = (decoded(self.0.username()), decoded(self.0.password().unwrap_or_default()));
        (!user.is_empty() || !password.is_empty()).then(|| (user, Secret::new(password)))
    }

    /// Where a redirect leads: an address on the same host keeps user and password.
    ///
    /// # Errors
    /// In words, if it leads to another host, from TLS to plain text, or nowhere.
    pub fn redirected(&self, location: &str) -> Result<Self, String> {
        let mut to = self.0.join(location).map_err(|error| format!("moved to no address ({error})"))?;
        let shown = Self(to.clone());
        if !matches!(to.scheme(), "http" | "https") || to.host() != self.0.host() {
            return Err(format!("moved to another host: {shown}; write that address if it is right"));
        }
        if self.is_tls() && to.scheme() == "http" {
            return Err(format!("moved from https to {shown}, which is not followed"));
        }
        if to.username().is_empty() && to.password().is_none() {
            // These fail for addresses without a host only, and this one has the host of ours.
            let _ = to.set_username(self.0.username());
            let _ = to.set_password(self.0.password());
        }
        Ok(Self(to))
    }
}

impl std::fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.0.scheme(), self.host_header(), self.0.path())
    }
}

impl std::fmt::Debug for HttpAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> HttpAddress {
        HttpAddress::parse(text).expect(text)
    }

    #[test]
    fn users_and_passwords_are_decoded_and_never_shown() {
        let found = address("http://me%40home:p%40ss%2Fw%23rd@cam:8080/a%20b?token=quiet-9&x");
        let (user, password) = found.credentials().expect("both");
        assert_eq!((user.as_str(), password.expose()), ("me@home", "p@ss/w#rd"));
        assert_eq!(found.path_and_query(), "/a%20b?token=quiet-9&x");
        assert_eq!(format!("{found} {found:?}"), "http://cam:8080/a%20b http://cam:8080/a%20b");
        assert_eq!(address("http://:only@h/").credentials().expect("one").1.expose(), "only");
        assert!(address("http://h/").credentials().is_none());
    }

    #[test]
    fn legal_addresses_are_read() {
        for (text, host, port, header) in [
            ("http://[fe80::1]:81/v", "fe80::1", 81, "[fe80::1]:81"),
            ("https://cam.local", "cam.local", 443, "cam.local"),
            ("HTTP://CAM/", "cam", 80, "cam"),
            ("http://192.168.1.9:80/a;b=c,(d)!*'", "192.168.1.9", 80, "192.168.1.9"),
        ] {
            let found = address(text);
            assert_eq!(
                (found.host().as_str(), found.port(), found.host_header().as_str()),
                (host, port, header)
            );
        }
        assert_eq!(address("https://cam.local").path_and_query(), "/");
    }

    #[test]
    fn what_is_no_address_is_refused_without_repeating_it() {
        for (text, word) in [
            ("http://me:hush/5@cam/", "%2F"),
            ("rtsp://me:hush@cam/", "rtsp://"),
            ("http://", "not an address"),
            ("cam/video", "not an address"),
            ("http://a b/", "spaces"),
            ("http://cam:99999/", "not an address"),
            ("file:///etc/passwd", "file://"),
        ] {
            let error = HttpAddress::parse(text).expect_err(text).to_string();
            assert!(error.contains(word) && !error.contains("hush"), "{text}: {error}");
        }
    }

    #[test]
    fn redirects_stay_on_the_host_and_keep_the_login() {
        let from = address("http://me:quiet-9@cam/old/video?x=1");
        let to = from.redirected("live").expect("relative");
        assert_eq!((to.to_string().as_str(), to.credentials().is_some()), ("http://cam/old/live", true));
        assert_eq!(from.redirected("https://cam/s").expect("same host").port(), 443);
        assert!(
            from.redirected("http://evil/?t=quiet-9")
                .expect_err("elsewhere")
                .contains("another host: http://evil/")
        );
        assert!(
            address("https://cam/").redirected("http://cam/").expect_err("in clear").contains("not followed")
        );
    }
}
