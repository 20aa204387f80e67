//! One request after the other to one camera: connection, login, redirects.

use super::lenient::Lenient;
use super::tls;
use crate::address::HttpAddress;
use crate::dial;
use crate::secret::Secret;
use base64::Engine as _;
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::Builder;
use hyper::header::{HeaderMap, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

/// Most redirects that are followed.
const MOST_REDIRECTS: usize = 5;

/// A camera that can be asked again and again.
pub(super) struct Client {
    address: HttpAddress,
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    /// Reads the certificates, where TLS is spoken or may be redirected to.
    pub fn new(address: HttpAddress, ca_file: Option<&Path>) -> Result<Self, String> {
        let tls = if address.is_tls() || ca_file.is_some() { Some(tls::config(ca_file)?) } else { None };
        Ok(Self { address, tls })
    }

    /// The answer to a GET, after logins and redirects on the same host. The login is sent once it was
    /// asked for, so that a camera that wants a digest never sees the password.
    pub async fn get(&mut self) -> Result<Response<Incoming>, String> {
        let mut address = self.address.clone();
        let (mut login, mut redirects): (Option<String>, usize) = (None, 0);
        loop {
            let response = self.ask(&address, login.as_deref()).await?;
            match response.status().as_u16() {
                200 => {
                    // What was moved for good or for a session is asked for there the next time.
                    self.address = address;
                    return Ok(response);
                }
                401 => {
                    if login.is_some() {
                        return Err("answers 401: it refuses this user and password".into());
                    }
                    login = Some(answer_to(response.headers(), &address)?);
                }
                301 | 302 | 303 | 307 | 308 if redirects < MOST_REDIRECTS => {
                    redirects += 1;
                    let to = response
                        .headers()
                        .get("location")
                        .and_then(|to| to.to_str().ok())
                        .unwrap_or_default();
                    address = address
                        .redirected(to)
                        .map_err(|why| format!("answers {}: {why}", response.status()))?;
                    login = None;
                }
                301 | 302 | 303 | 307 | 308 => {
                    return Err(format!("answers with more than {MOST_REDIRECTS} redirects"));
                }
                _ => return Err(format!("answers {}", in_words(response.status()))),
            }
        }
    }

    async fn ask(
        &mut self,
        address: &HttpAddress,
        login: Option<&str>,
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::get(address.path_and_query())
            .header("host", address.host_header())
            .header("user-agent", concat!("retinad/", env!("CARGO_PKG_VERSION")))
            .header("accept", "*/*");
        if let Some(login) = login {
            request = request.header("authorization", login);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
        let (host, port) = (address.host(), address.port());
        let socket = dial::reach(&host, port, None).await?;
        if !address.is_tls() {
            return send(request, socket).await;
        }
        let config = match &self.tls {
            Some(config) => Arc::clone(config),
            None => Arc::clone(self.tls.insert(tls::config(None)?)),
        };
        let name = ServerName::try_from(host.clone()).map_err(|e| e.to_string())?;
        let connected = TlsConnector::from(config).connect(name, socket).await;
        let socket = connected.map_err(|error| tls::in_words(&error, &host))?;
        send(request, socket).await
    }
}

async fn send<S>(request: Request<Empty<Bytes>>, socket: S) -> Result<Response<Incoming>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // What old cameras send and expect: names in capitals, spaces before the colon, folded lines.
    let (mut sender, connection) = Builder::new()
        .title_case_headers(true)
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true)
        .handshake(TokioIo::new(Lenient::new(socket)))
        .await
        .map_err(|e| words(&e))?;
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|e| words(&e))
}

/// User and password as the basic scheme writes them.
fn basic(user: &str, password: &Secret) -> String {
    let both = format!("{user}:{}", password.expose());
    format!("Basic {}", base64::prelude::BASE64_STANDARD.encode(both))
}

/// How to answer a server that wants a login: digest where it offers that, else basic.
fn answer_to(headers: &HeaderMap, address: &HttpAddress) -> Result<String, String> {
    let Some((user, password)) = address.credentials() else {
        return Err("answers 401: it wants a user and password; write them into the address as \
                    http://user:{secret:NAME}@host/"
            .into());
    };
    let offers = || headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|offer| offer.to_str().ok());
    let is = |offer: &str, scheme: &str| {
        offer.get(..scheme.len()).is_some_and(|word| word.eq_ignore_ascii_case(scheme))
    };
    if let Some(offer) = offers().find(|offer| is(offer, "digest")) {
        let path = address.path_and_query();
        let context = digest_auth::AuthContext::new(user.as_str(), password.expose(), path.as_str());
        let answer = digest_auth::parse(offer).and_then(|mut prompt| prompt.respond(&context));
        return answer
            .map(|answer| answer.to_string())
            .map_err(|e| format!("answers 401 with a digest that is not understood: {e}"));
    }
    let names: Vec<&str> = offers().map(|offer| offer.split(' ').next().unwrap_or_default()).collect();
    if names.is_empty() || offers().any(|offer| is(offer, "basic")) {
        return Ok(basic(&user, &password));
    }
    Err(format!(
        "answers 401: it wants a login by {}, and only basic and digest are spoken",
        names.join(", ")
    ))
}

fn in_words(status: StatusCode) -> String {
    status
        .canonical_reason()
        .map_or_else(|| status.as_u16().to_string(), |words| format!("{} {words}", status.as_u16()))
}

/// An error of the connection with all that lies behind it.
pub(super) fn words(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = next.source();
    }
    text
}
