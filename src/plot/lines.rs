//! Lines over two axes.

use super::{GRID, INK, MARGIN, PALE, PlotError, Size, TEXT_SIZE, check_axis, colour, sheet, text, title};
use crate::one_line::one_line;
use plotters::chart::SeriesLabelPosition;
use plotters::prelude::{
    ChartBuilder, Circle, Color, EmptyElement, PathElement, RGBColor, ShapeStyle, WHITE,
};

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// Thick, in the next colour, named in the legend.
    Main,
    /// As `Main`, with a dot at each point.
    Dotted,
    /// Thin and grey, behind the others; named only if it has a name.
    Pale,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// For the legend.
    pub name: String,
    /// `(x, y)` in the units of the axes; those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub stroke: Stroke,
}

/// A chart of lines.
#[derive(Debug, Clone, PartialEq)]
pub struct Lines {
    /// Above the chart.
    pub title: String,
    /// What x is.
    pub x_name: String,
    /// Least and largest x.
    pub x: (f64, f64),
    /// What y is.
    pub y_name: String,
    /// Least and largest y.
    pub y: (f64, f64),
    /// The lines; later ones lie above earlier ones.
    pub lines: Vec<Line>,
    /// Where the legend stands.
    pub legend: Corner,
    /// Pixels.
    pub size: Size,
}

/// A corner of the chart that the lines leave free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corner {
    /// Above, on the left.
    UpperLeft,
    /// Below, on the left.
    LowerLeft,
    /// Above, on the right.
    UpperRight,
    /// Below, on the right.
    LowerRight,
}

const THICK: u32 = 3;
const LEGEND_LINE: i32 = 22;

impl Lines {
    /// The chart as SVG.
    ///
    /// # Errors
    /// [`PlotError`] if an axis is not finite or has no length.
    pub fn to_svg(&self) -> Result<String, PlotError> {
        sheet(&self.title, self.size, |root| {
            check_axis(&self.x_name, self.x)?;
            check_axis(&self.y_name, self.y)?;
            let mut chart = ChartBuilder::on(root)
                .margin(MARGIN)
                .caption(one_line(&self.title), title())
                .x_label_area_size(42)
                .y_label_area_size(54)
                .build_cartesian_2d(self.x.0..self.x.1, self.y.0..self.y.1)?;
            chart
                .configure_mesh()
                .x_desc(one_line(&self.x_name))
                .y_desc(one_line(&self.y_name))
                .label_style(text(TEXT_SIZE))
                .axis_desc_style(text(TEXT_SIZE))
                .axis_style(INK)
                .bold_line_style(GRID)
                .light_line_style(WHITE)
                .draw()?;
            let mut colours = (0..).map(colour);
            for line in &self.lines {
                let style: ShapeStyle = match line.stroke {
                    Stroke::Pale => PALE.stroke_width(1),
                    Stroke::Main | Stroke::Dotted => colours.next().unwrap_or(INK).stroke_width(THICK),
                };
                let finite = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
                let points: Vec<(f64, f64)> = line.points.iter().filter(finite).copied().collect();
                let path = PathElement::new(points.clone(), style);
                let drawn = chart.draw_series([path])?;
                if !line.name.is_empty() {
                    drawn
                        .label(one_line(&line.name))
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + LEGEND_LINE, y)], style));
                }
                if line.stroke == Stroke::Dotted {
                    let dot = |at| EmptyElement::at(at) + Circle::new((0, 0), 4, style.filled());
                    chart.draw_series(points.into_iter().map(dot))?;
                }
            }
            chart
                .configure_series_labels()
                .position(match self.legend {
                    Corner::UpperLeft => SeriesLabelPosition::UpperLeft,
                    Corner::LowerLeft => SeriesLabelPosition::LowerLeft,
                    Corner::UpperRight => SeriesLabelPosition::UpperRight,
                    Corner::LowerRight => SeriesLabelPosition::LowerRight,
                })
                .background_style(WHITE.mix(0.85))
                .border_style(RGBColor(170, 170, 170))
                .label_font(text(TEXT_SIZE))
                .legend_area_size(LEGEND_LINE + 6)
                .draw()?;
            Ok(())
        })
    }
}
