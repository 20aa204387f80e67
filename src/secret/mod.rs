//! Passwords and tokens: where they come from, and that nobody gets to see them.
//!
//! Whatever is shown to people or written to the log passes through [`redacted`], at the place where it
//! leaves the program. That covers words of others, too: a child process or a server may repeat an address
//! with its password.

mod arguments;
mod placeholder;
mod redact;

pub use arguments::redacted_arguments;
pub use placeholder::{SecretError, check_placeholders, masked_placeholders, resolve};
pub use redact::{is_secret_name, redacted, remember};

/// A password or token. It has no `Display`, and its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret; from then on [`redacted`] knows it.
    #[must_use]
    pub fn new(text: String) -> Self {
        remember(&text);
        Self(text)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret itself, for whoever sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing_and_is_known_from_then_on() {
        let secret = Secret::new("kept-close-7".into());
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(redacted("it said kept-close-7!"), "it said ***!");
        assert_eq!(secret.expose(), "kept-close-7");
    }
}
