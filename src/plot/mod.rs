//! Charts as SVG: lines, and horizontal bars.
//!
//! Dark ink on a white sheet of its own, so that a chart can be read on a light and on a dark page; colours
//! that most colour-blind people tell apart (Okabe and Ito). The same chart gives the same bytes. Pure: no
//! files, threads or clocks.

mod bars;
mod lines;

pub use bars::Bars;
pub use lines::{Corner, Line, Lines, Stroke};

use crate::one_line::one_line;
use plotters::prelude::{DrawingArea, IntoDrawingArea, RGBColor, SVGBackend, WHITE};
use plotters::style::{FontStyle, IntoFont, TextStyle};

/// Width and height of a chart, pixels.
pub type Size = (u32, u32);

/// Text and axes.
const INK: RGBColor = RGBColor(40, 40, 40);
/// Lines of the grid.
const GRID: RGBColor = RGBColor(222, 222, 222);
/// Lines that stand back.
const PALE: RGBColor = RGBColor(175, 175, 175);
/// Blue, vermilion, green, purple, orange, sky.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];
const FONT: &str = "sans-serif";
const TITLE_SIZE: u32 = 18;
const TEXT_SIZE: u32 = 13;
/// Margin of a chart, pixels.
const MARGIN: u32 = 14;

/// Why a chart cannot be drawn: an axis without length, a number that is not finite.
#[derive(Debug, thiserror::Error)]
#[error("{title}: cannot be drawn: {reason}")]
pub struct PlotError {
    title: String,
    reason: String,
}

fn colour(number: usize) -> RGBColor {
    COLOURS[number % COLOURS.len()]
}

fn text(size: u32) -> TextStyle<'static> {
    TextStyle::from((FONT, size).into_font()).color(&INK)
}

fn title() -> TextStyle<'static> {
    TextStyle::from((FONT, TITLE_SIZE, FontStyle::Bold).into_font()).color(&INK)
}

/// Draws on a white sheet.
fn sheet<D>(name: &str, size: Size, draw: D) -> Result<String, PlotError>
where
    D: FnOnce(&DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Result<(), Box<dyn std::error::Error>>,
{
    let mut svg = String::new();
    let drawn = {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)
            .map_err(|e| Box::new(e) as Box<dyn std::error::Error>)
            .and_then(|()| draw(&root))
            .and_then(|()| Ok(root.present()?))
    };
    let failed = |reason: String| PlotError { title: one_line(name), reason: one_line(&reason) };
    drawn.map(|()| svg).map_err(|e| failed(e.to_string()))
}

/// Whether an axis can be drawn.
fn check_axis(name: &str, (from, to): (f64, f64)) -> Result<(), Box<dyn std::error::Error>> {
    if from.is_finite() && to.is_finite() && from < to {
        Ok(())
    } else {
        Err(format!("the axis `{name}` goes from {from} to {to}").into())
    }
}

#[cfg(test)]
mod tests;
