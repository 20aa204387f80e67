//! Horizontal bars with names, one or more to a name.

use super::{GRID, INK, MARGIN, PlotError, Size, TEXT_SIZE, check_axis, colour, sheet, text, title};
use crate::one_line::one_line;
use plotters::chart::SeriesLabelPosition;
use plotters::prelude::{ChartBuilder, Color, EmptyElement, RGBColor, Rectangle, Text, WHITE};
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A chart of bars.
#[derive(Debug, Clone, PartialEq)]
pub struct Bars {
    /// Above the chart.
    pub title: String,
    /// What the length of a bar is.
    pub x_name: String,
    /// Length of the longest bar that fits.
    pub longest: f64,
    /// What each of the bars of a name is, for the legend.
    pub series: Vec<String>,
    /// Names from top to bottom, with a length for each of `series`; none leaves the bar out.
    pub rows: Vec<(String, Vec<Option<f64>>)>,
}

const WIDTH: u32 = 720;
/// Height of one bar and of the space between two names, pixels.
const BAR: u32 = 13;
const SPACE: u32 = 8;
/// Between a name and its bars, pixels.
const GAP: i32 = 8;
/// Title, axis and margins.
const AROUND: u32 = 110;
/// Letters of a name that are shown.
const MOST_LETTERS: usize = 22;

impl Bars {
    /// The chart as SVG; its height grows with the names.
    ///
    /// # Errors
    /// [`PlotError`] if the axis is not finite or has no length.
    pub fn to_svg(&self) -> Result<String, PlotError> {
        sheet(&self.title, self.size(), |root| {
            check_axis(&self.x_name, (0.0, self.longest))?;
            let rows = self.rows.len().max(1) as f64;
            let mut chart = ChartBuilder::on(root)
                .margin(MARGIN)
                .caption(one_line(&self.title), title())
                .x_label_area_size(42)
                .y_label_area_size(150)
                // From top to bottom.
                .build_cartesian_2d(0.0..self.longest, rows..0.0)?;
            chart
                .configure_mesh()
                .disable_y_mesh()
                .disable_y_axis()
                .x_desc(one_line(&self.x_name))
                .label_style(text(TEXT_SIZE))
                .axis_desc_style(text(TEXT_SIZE))
                .axis_style(INK)
                .bold_line_style(GRID)
                .light_line_style(WHITE)
                .draw()?;
            let per_row = f64::from(BAR * self.series.len() as u32 + SPACE);
            let bar = f64::from(BAR) / per_row;
            let above = f64::from(SPACE) / per_row / 2.0;
            for (number, series) in self.series.iter().enumerate() {
                let style = colour(number).filled();
                let places = self.rows.iter().enumerate();
                let bars = places.filter_map(|(row, (_, lengths))| {
                    let length =
                        lengths.get(number).copied().flatten().filter(|length| length.is_finite())?;
                    let top = row as f64 + above + bar * number as f64;
                    Some(Rectangle::new([(0.0, top), (length.clamp(0.0, self.longest), top + bar)], style))
                });
                chart
                    .draw_series(bars)?
                    .label(one_line(series))
                    .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], style));
            }
            let right = text(TEXT_SIZE).pos(Pos::new(HPos::Right, VPos::Center));
            chart.draw_series(self.rows.iter().enumerate().map(|(row, (name, _))| {
                EmptyElement::at((0.0, row as f64 + 0.5))
                    + Text::new(shortened(name), (-GAP, 0), right.clone())
            }))?;
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerRight)
                .background_style(WHITE.mix(0.85))
                .border_style(RGBColor(170, 170, 170))
                .label_font(text(TEXT_SIZE))
                .draw()?;
            Ok(())
        })
    }

    fn size(&self) -> Size {
        let rows = u32::try_from(self.rows.len()).unwrap_or(u32::MAX).max(1);
        let series = u32::try_from(self.series.len()).unwrap_or(u32::MAX);
        (WIDTH, rows.saturating_mul(BAR.saturating_mul(series) + SPACE).saturating_add(AROUND))
    }
}

fn shortened(name: &str) -> String {
    let name = one_line(name);
    if name.chars().count() <= MOST_LETTERS {
        return name;
    }
    name.chars().take(MOST_LETTERS - 1).chain(['…']).collect()
}
