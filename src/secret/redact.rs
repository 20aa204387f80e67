//! Taking secrets out of a text: those that are known by value, and what looks like one.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::borrow::Cow;
use std::sync::{PoisonError, RwLock};

/// What stands in place of a secret.
const MASK: &str = "***";
/// Shorter ones are not looked for by value: to hide each `1` would make nonsense of every text. What they
/// stand in (an address, an option) is masked all the same.
const SHORTEST: usize = 4;
/// Secrets shorter than this are hidden only where they stand as a word of their own.
const LONG: usize = 8;
/// Most values that are remembered; settings that are reloaded for years must not grow this without end.
/// The oldest go first.
const MOST: usize = 1024;

/// The secrets of this process. It is global because log lines and panics come from everywhere, and a
/// secret that one part of the program does not know of is the one that it would show.
static KNOWN: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// From now on [`redacted`] hides this value, also where it stands in the form that an address needs.
pub fn remember(secret: &str) {
    let secret = secret.trim();
    let decoded = percent_decode_str(secret).decode_utf8_lossy().into_owned();
    let encoded = utf8_percent_encode(&decoded, NON_ALPHANUMERIC).to_string();
    let mut known = KNOWN.write().unwrap_or_else(PoisonError::into_inner);
    for form in [secret.to_owned(), decoded, encoded] {
        if form.chars().count() >= SHORTEST && !known.contains(&form) {
            known.push(form);
        }
    }
    let too_many = known.len().saturating_sub(MOST);
    known.drain(..too_many);
}

/// The text without secrets: remembered values, user names and passwords and queries of addresses, values
/// that are called a password or token, and what authorises a request.
#[must_use]
pub fn redacted(text: &str) -> Cow<'_, str> {
    let by_value = without_known(text);
    if !by_value.contains("://") && !may_name_a_secret(&by_value) {
        return by_value;
    }
    Cow::Owned(without_named(&without_authorisation(&without_address_secrets(&by_value))))
}

fn without_known(text: &str) -> Cow<'_, str> {
    let known = KNOWN.read().unwrap_or_else(PoisonError::into_inner);
    let mut found: Vec<&String> = known.iter().filter(|secret| text.contains(secret.as_str())).collect();
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    // The longest first: one may be part of another.
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut text = text.to_owned();
    for secret in found {
        text = if secret.chars().count() >= LONG {
            text.replace(secret.as_str(), MASK)
        } else {
            without_word(&text, secret)
        };
    }
    Cow::Owned(text)
}

/// Hides `word` where neither neighbour is a letter or digit.
fn without_word(text: &str, word: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let joined =
            before.chars().next_back().or_else(|| out.chars().next_back()).is_some_and(char::is_alphanumeric)
                || after.chars().next().is_some_and(char::is_alphanumeric);
        out.push_str(before);
        out.push_str(if joined { word } else { MASK });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Where an address within a text ends.
fn ends_address(character: char) -> bool {
    character.is_whitespace() || character.is_control() || matches!(character, '"' | '\'' | '`' | '<' | '>')
}

/// Every `scheme://...` without user, password and the values of its query.
fn without_address_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let (address, behind) = after.split_at(after.find(ends_address).unwrap_or(after.len()));
        out.push_str(before);
        out.push_str(&without_query(&without_user(address)));
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// What follows `://` without user and password. A password may hold `/`, `?` and `#` though it should not,
/// so the last `@` counts wherever a user or password can stand before it.
fn without_user(address: &str) -> Cow<'_, str> {
    let Some(at) = address.rfind('@') else { return Cow::Borrowed(address) };
    let before = &address[..at];
    let in_authority = !before.contains(['/', '?', '#']);
    if in_authority || before.contains(':') {
        Cow::Owned(format!("{MASK}@{}", &address[at + 1..]))
    } else {
        // `http://host/a@b`: of its authority nothing is a secret.
        Cow::Borrowed(address)
    }
}

/// `host/path?token=1&x` to `host/path?token=***&***`.
fn without_query(address: &str) -> Cow<'_, str> {
    let Some(at) = address.find(['?', '#']) else { return Cow::Borrowed(address) };
    let (path, query) = address.split_at(at);
    let fields = query[1..].split('&').map(|field| match field.split_once('=') {
        Some((name, _)) if !name.contains(['#', '?']) => format!("{name}={MASK}"),
        _ if field.is_empty() => String::new(),
        _ => MASK.to_owned(),
    });
    Cow::Owned(format!("{path}{}{}", &query[..1], fields.collect::<Vec<_>>().join("&")))
}

/// How a request is authorised: everything behind the scheme's name.
const SCHEMES: [&str; 3] = ["basic ", "bearer ", "digest "];
/// Headers whose whole value is secret.
const HEADERS: [&str; 4] = ["authorization:", "proxy-authorization:", "cookie:", "x-api-key:"];

fn without_authorisation(text: &str) -> String {
    let mut out = text.to_owned();
    for header in HEADERS {
        // A header's value goes to the end of the line, or to the quote that it stands in.
        out = without_behind(&out, header, |c| c == '\n' || c == '\r' || c == '"' || c == '\'', |_| true);
    }
    for scheme in SCHEMES {
        // "basic words" is English; a token is long or ends like base64.
        let is_token =
            |word: &str| word.len() >= 8 && word.chars().any(|c| c.is_ascii_digit() || c == '=' || c == '.');
        out = without_behind(&out, scheme, |c: char| c.is_whitespace() || c == '"' || c == '\'', is_token);
    }
    out
}

/// Masks what stands behind each `marker` (in lower case) up to `end`, where it `is_secret`.
fn without_behind(
    text: &str,
    marker: &str,
    end: impl Fn(char) -> bool,
    is_secret: impl Fn(&str) -> bool,
) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.to_ascii_lowercase().find(marker) {
        let (before, after) = rest.split_at(at + marker.len());
        let spaces = after.len() - after.trim_start_matches(' ').len();
        let (value, behind) =
            after.split_at(spaces + after[spaces..].find(&end).unwrap_or(after.len() - spaces));
        out.push_str(before);
        if value.trim().is_empty() || !is_secret(value.trim()) {
            out.push_str(value);
        } else {
            out.push_str(&value[..spaces]);
            out.push_str(MASK);
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// Parts of names whose values are secret.
pub(super) const NAMES: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "credential",
    "auth",
];

fn may_name_a_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    NAMES.iter().chain(&HEADERS).chain(&SCHEMES).any(|name| lower.contains(name))
}

/// Whether a value of this name is secret. `password_file` names a file, and that may be shown.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.iter().any(|part| name.contains(part)) && !name.ends_with("file") && !name.ends_with("dir")
}

/// Every `password=...`, `"token": "..."` and the like without its value.
fn without_named(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(at + 1);
        out.push_str(before);
        rest = after;
        let name = before[..at].trim_end_matches([' ', '"', '\'']);
        let name = &name[name
            .rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')))
            .map_or(0, |i| i + name[i..].chars().next().map_or(1, char::len_utf8))..];
        // In prose a colon ends a clause ("the token: ..."); only an equals sign, or a colon in quotes as
        // in JSON, gives a value.
        let gives_value = before.ends_with('=') || before[..at].ends_with(['"', '\'']);
        if !gives_value || !is_secret_name(name) {
            continue;
        }
        let open = after.len() - after.trim_start_matches([' ', '"', '\'']).len();
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | ';' | '&');
        let end = open + after[open..].find(ends).unwrap_or(after.len() - open);
        if end > open {
            out.push_str(&after[..open]);
            out.push_str(MASK);
            rest = &after[end..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_hidden_and_all_else_stays() {
        for (text, wanted) in [
            ("rtsp://me:hush@cam/live: refused", "rtsp://***@cam/live: refused"),
            ("[rtsp @ 0x55] rtsp://me:hu/s#h?@cam:554/a: 401", "[rtsp @ 0x55] rtsp://***@cam:554/a: 401"),
            ("http://cam/a@b", "http://cam/a@b"),
            ("open \"http://cam/x?token=hush&u=1\" failed", "open \"http://cam/x?token=***&u=***\" failed"),
            ("http://cam/x#hush", "http://cam/x#***"),
            ("http://cam/x?hush", "http://cam/x?***"),
            ("http://cam:8080/path is fine", "http://cam:8080/path is fine"),
            ("http://[::1]:80/a and http://u:hush@[::1]/b", "http://[::1]:80/a and http://***@[::1]/b"),
            ("Authorization: Basic aHVzaA== sent", "Authorization: ***"),
            ("header 'Cookie: a=hush; b=hush' of curl", "header 'Cookie: ***' of curl"),
            ("sent Bearer hush1234.hush", "sent Bearer ***"),
            ("a basic understanding", "a basic understanding"),
            ("password=hush, user=me", "password=***, user=me"),
            ("{\"api_token\": \"hush\", \"n\": 1}", "{\"api_token\": \"***\", \"n\": 1}"),
            ("password_file = \"/etc/x\"", "password_file = \"/etc/x\""),
            ("mqtt.password_file /a: No such file", "mqtt.password_file /a: No such file"),
            ("unexpected token: expected a digit", "unexpected token: expected a digit"),
            ("--proxy-password='hush' -v", "--proxy-password='***' -v"),
            ("grüße=1 passwörter: nein", "grüße=1 passwörter: nein"),
            ("", ""),
        ] {
            assert_eq!(redacted(text), wanted);
        }
    }

    #[test]
    fn a_remembered_value_is_hidden_in_each_form() {
        remember("gr%40nd/slam 9");
        assert_eq!(redacted("said gr@nd/slam 9."), "said ***.");
        assert_eq!(redacted("GET /gr%40nd%2Fslam%209"), "GET /***");
    }

    #[test]
    fn a_short_value_is_hidden_as_a_word_only() {
        remember("ham7");
        assert_eq!(redacted("ham7 (ham7) graham7 ham70"), "*** (***) graham7 ham70");
        remember("x1");
        assert_eq!(redacted("x1"), "x1");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        // The values are of a form that no other test shows.
        for number in 0..3 * MOST {
            remember(&format!("zzbound{number:08}"));
        }
        assert!(KNOWN.read().expect("not poisoned").len() <= MOST);
        remember("kept-close-7");
        remember("gr%40nd/slam 9");
    }
}
