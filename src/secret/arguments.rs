//! A command line as it may be shown.

use super::redact::{is_secret_name, redacted, remember};

/// Short options of common programs whose next word is a login, header or cookie.
const SHORT: [&str; 5] = ["-u", "-U", "-p", "-H", "-b"];
/// Long options with such a value, beside those whose name says so.
const LONG: [&str; 8] =
    ["user", "proxy-user", "proxy_user", "header", "headers", "cookie", "cookies", "oauth2-bearer"];

/// The words of a command without secrets: what stands in an address, behind an option that takes a login,
/// or behind a name such as `password=`. The values that were found are remembered, since the child may
/// repeat them.
#[must_use]
pub fn redacted_arguments(words: &[String]) -> Vec<String> {
    let mut out = Vec::with_capacity(words.len());
    let mut value_follows = false;
    for word in words {
        if std::mem::replace(&mut value_follows, false) {
            remember_login(word);
            out.push("***".to_owned());
            continue;
        }
        let (name, value) =
            word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
        if takes_a_secret(name) {
            match value {
                Some(value) => {
                    remember_login(value);
                    out.push(format!("{name}=***"));
                    continue;
                }
                None => value_follows = true,
            }
        }
        // `-uname:password` in one word.
        let joined = SHORT.iter().find(|short| word.starts_with(**short) && word[2..].contains(':'));
        if let Some(short) = joined.filter(|_| !word.starts_with("--")) {
            remember_login(&word[2..]);
            out.push(format!("{short}***"));
            continue;
        }
        remember_addresses(word);
        out.push(redacted(word).into_owned());
    }
    out
}

fn takes_a_secret(option: &str) -> bool {
    let long = option.trim_start_matches('-');
    SHORT.contains(&option) || (option.starts_with('-') && (LONG.contains(&long) || is_secret_name(long)))
}

/// `user:password`, a header's value, or the whole.
fn remember_login(value: &str) {
    remember(value);
    if let Some((_, password)) = value.split_once(':') {
        remember(password);
    }
}

/// The passwords of all addresses in a word.
fn remember_addresses(word: &str) {
    for (at, _) in word.match_indices("://") {
        let rest = &word[at + 3..];
        let address =
            &rest[..rest.find(|c: char| c.is_whitespace() || c == '"' || c == '\'').unwrap_or(rest.len())];
        if let Some((login, _)) = address.rsplit_once('@')
            && let Some((_, password)) = login.split_once(':')
        {
            remember(password);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(words: &[&str]) -> String {
        redacted_arguments(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).join(" ")
    }

    #[test]
    fn logins_and_addresses_are_hidden_and_options_stay() {
        for (words, wanted) in [
            (
                &["ffmpeg", "-i", "rtsp://me:hush99@cam/1", "-f", "mjpeg"][..],
                "ffmpeg -i rtsp://***@cam/1 -f mjpeg",
            ),
            (&["curl", "-u", "me:hush99", "http://cam/"], "curl -u *** http://cam/"),
            (&["curl", "-ume:hush99"], "curl -u***"),
            (&["curl", "--user=me:hush99"], "curl --user=***"),
            (&["curl", "--proxy-password", "hush99"], "curl --proxy-password ***"),
            (&["curl", "-H", "X-Key: hush99"], "curl -H ***"),
            (&["sh", "-c", "curl http://me:hush99@cam/ | cat"], "sh -c curl http://***@cam/ | cat"),
            (&["cam", "token=hush99"], "cam token=***"),
            (&["rpicam-vid", "--width", "640", "-t", "0"], "rpicam-vid --width 640 -t 0"),
            (&["x", "-u"], "x -u"),
        ] {
            let shown = shown(words);
            assert_eq!(shown, wanted);
            assert!(!shown.contains("hush99"), "{shown}");
        }
        assert_eq!(redacted("401 for hush99"), "401 for ***", "the child may repeat it");
    }
}
