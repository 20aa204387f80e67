//! A panic made an error, without a line on standard error.

use crate::one_line::one_line;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is caught, and so prints nothing.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What `work` gives.
///
/// What `work` changed may be half-done after a panic, so it must not be used again.
///
/// # Errors
/// The panic's message on one line. A panic of this thread prints nothing; one of a thread that `work` waits
/// for is caught as well, but prints as usual.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                before(panic);
            }
        }));
    });
    // One call may stand within another, so the flag goes back to what it was.
    let outer = CAUGHT.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CAUGHT.set(outer);
    done.map_err(|panic| {
        let words = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        one_line(words.unwrap_or("no reason given"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_one_line_also_within_another_call() {
        assert_eq!(caught(|| 3), Ok(3));
        let nested = caught(|| {
            let inner = caught(|| -> u8 { panic!("two\nlines") });
            assert_eq!(inner, Err("two lines".into()));
            assert!(CAUGHT.get(), "the outer call still catches");
            panic!("outer {}", 7)
        });
        assert_eq!(nested, Err::<(), _>("outer 7".into()));
        assert!(!CAUGHT.get());
    }
}
