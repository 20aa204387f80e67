//! The bar of a command that works through pictures.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// What takes less time needs no bar.
const BAR_AFTER: Duration = Duration::from_secs(1);

/// A bar on stderr, where that is a terminal, once the work has taken a while.
pub fn progress(pictures: usize) -> ProgressBar {
    progress_of(pictures, "pictures")
}

/// A bar over so many of something else.
pub fn progress_of(count: usize, what: &str) -> ProgressBar {
    const REDRAW: Duration = Duration::from_millis(200);
    let bar = ProgressBar::with_draw_target(Some(count as u64), ProgressDrawTarget::hidden());
    let template = format!("{{bar:30}} {{pos}}/{{len}} {what}, {{eta}} left");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    let later = bar.clone();
    // It ends with the program at the latest, and holds nothing.
    std::thread::spawn(move || {
        std::thread::sleep(BAR_AFTER);
        if !later.is_finished() {
            later.set_draw_target(ProgressDrawTarget::stderr());
            later.enable_steady_tick(REDRAW);
        }
    });
    bar
}
