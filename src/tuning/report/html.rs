//! Text of others in HTML, and numbers for people.

use crate::one_line::one_line;
use std::fmt::{self, Display, Formatter};

/// Text that comes from outside (labels, names of files), on one line, so that nothing in it is read as HTML
/// and nothing in it turns what stands beside it around.
pub struct Escaped<'a>(pub &'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for letter in one_line(self.0).chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Marks that change the direction of the text after them.
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    f.write_str("\u{fffd}")?;
                }
                letter => write!(f, "{letter}")?,
            }
        }
        Ok(())
    }
}

/// A number with so many digits after the point; a dash if it is none.
pub struct Decimal(pub f64, pub usize);

impl Display for Decimal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.is_finite() { write!(f, "{:.*}", self.1, self.0) } else { f.write_str("–") }
    }
}

/// A difference with its sign.
pub struct Signed(pub f64, pub usize);

impl Display for Signed {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(value, digits) = *self;
        let text = Decimal(value.abs(), digits).to_string();
        let nothing = !text.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
        let sign = if nothing {
            ""
        } else if value < 0.0 {
            "−"
        } else {
            "+"
        };
        write!(f, "{sign}{text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_others_is_read_as_html() {
        let hostile = "</title><script>alert('1')</script>\"&\u{202e}\n\u{1b}[2J";
        let shown = Escaped(hostile).to_string();
        assert_eq!(
            shown,
            "&lt;/title&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot;&amp;\u{fffd} [2J"
        );
        assert!(Escaped(&"x".repeat(10_000)).to_string().len() < 500);
    }

    #[test]
    fn numbers_have_a_sign_where_they_say_something() {
        assert_eq!(Signed(0.0123, 3).to_string(), "+0.012");
        assert_eq!(Signed(-0.5, 2).to_string(), "−0.50");
        assert_eq!(Signed(-0.0001, 3).to_string(), "0.000");
        assert_eq!(Decimal(f64::NAN, 2).to_string(), "–");
    }
}
