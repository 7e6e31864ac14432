//! A figure as SVG: lines over two axes, drawn with plotters.
//!
//! Every colour that is drawn stands for a role ([`Paint`]); the style sheet of the page finds roles by these colours and
//! repaints them for dark screens. Figures are drawn a few times larger than they are shown, because plotters places
//! points at whole pixels.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;

use super::axis::Axis;

/// Pixels drawn for one that is shown.
const FINENESS: u32 = 4;

/// The size at which text in figures is as large as text around them.
const SIZE: (u32, u32) = (400, 270);

/// What is drawn, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paint {
    /// Text and axes.
    Ink,
    /// Lines behind everything.
    Grid,
    /// What a policy made of the trace: the first or the second one.
    Policy(usize),
    /// What it had to do it with.
    Capacity(usize),
}

impl Paint {
    const fn color(self) -> RGBColor {
        match self {
            Self::Ink => RGBColor(0x1f, 0x29, 0x33),
            Self::Grid => RGBColor(0xd9, 0xde, 0xe4),
            Self::Policy(0) => RGBColor(0x1d, 0x5f, 0xa8),
            Self::Policy(_) => RGBColor(0xc2, 0x57, 0x1a),
            Self::Capacity(0) => RGBColor(0x8a, 0xa9, 0xc9),
            Self::Capacity(_) => RGBColor(0xdd, 0xa8, 0x87),
        }
    }
}

impl Paint {
    /// How wide a line is drawn. The second policy's is narrower, so that the first one's shows below where they agree.
    const fn width(self) -> u32 {
        match self {
            Self::Ink | Self::Grid => FINENESS,
            Self::Policy(0) => 11 * FINENESS / 4,
            Self::Policy(_) | Self::Capacity(_) => 6 * FINENESS / 4,
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Line {
    /// What it stands for, in the legend.
    pub(super) label: String,
    /// How it is drawn.
    pub(super) paint: Paint,
    /// Its points, from left to right.
    pub(super) points: Vec<(f64, f64)>,
}

/// Lines over two axes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figure {
    /// What it shows.
    pub(super) title: &'static str,
    /// What to know for reading it.
    pub(super) note: &'static str,
    /// To the right.
    pub(super) x: Axis,
    /// Upwards.
    pub(super) y: Axis,
    /// In the order in which they are drawn.
    pub(super) lines: Vec<Line>,
}

/// A figure that could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("failed to draw the figure \"{title}\": {why}")]
pub struct DrawError {
    title: &'static str,
    why: String,
}

impl Figure {
    /// The content of an `svg` element of the size [`Figure::view_box`].
    ///
    /// # Errors
    ///
    /// [`DrawError`], where plotters does not draw it.
    pub(super) fn svg(&self) -> Result<String, DrawError> {
        let mut text = String::new();
        self.draw(&mut text).map_err(|error| DrawError { title: self.title, why: error.to_string() })?;
        let inner = text.split_once('>').and_then(|(_, rest)| rest.trim_end().strip_suffix("</svg>"));
        let broken = || DrawError { title: self.title, why: "the drawing is not an svg element".to_owned() };
        inner.map(ToOwned::to_owned).ok_or_else(broken)
    }

    /// The size of the drawing.
    pub(super) fn view_box() -> String {
        format!("0 0 {} {}", SIZE.0 * FINENESS, SIZE.1 * FINENESS)
    }

    fn draw(&self, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::with_string(text, (SIZE.0 * FINENESS, SIZE.1 * FINENESS)).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin_top(8 * FINENESS)
            .margin_right(22 * FINENESS)
            .x_label_area_size(42 * FINENESS)
            .y_label_area_size(58 * FINENESS)
            .build_cartesian_2d(Places::of(&self.x), Places::of(&self.y))?;
        let thin = |paint: Paint| paint.color().stroke_width(paint.width());
        // plotters shows a text of size 1.24 as one of size 1.
        let font = |size: u32| ("sans-serif", f64::from(size * FINENESS) * 1.24).into_font().color(&Paint::Ink.color());
        chart
            .configure_mesh()
            .bold_line_style(thin(Paint::Grid))
            .light_line_style(TRANSPARENT)
            .axis_style(thin(Paint::Ink))
            .set_all_tick_mark_size(4 * FINENESS)
            .x_desc(self.x.name)
            .y_desc(self.y.name)
            .label_style(font(12))
            .axis_desc_style(font(12))
            .x_label_formatter(&|place| label_at(&self.x, *place))
            .y_label_formatter(&|place| label_at(&self.y, *place))
            .draw()?;
        for line in &self.lines {
            let places = line.points.iter().map(|(x, y)| (self.x.place(*x), self.y.place(*y)));
            let style = line.paint.color().stroke_width(line.paint.width());
            chart.draw_series(LineSeries::new(places, style))?;
        }
        area.present()?;
        Ok(())
    }
}

/// An axis as plotters wants it: linear between two places, with ticks where we say.
struct Places {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Places {
    fn of(axis: &Axis) -> Self {
        Self { range: axis.places(), ticks: axis.ticks().map(|(place, _)| place).collect() }
    }
}

impl Ranged for Places {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        let share = (place - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

fn label_at(axis: &Axis, place: f64) -> String {
    let nearest = axis.ticks().min_by(|one, other| (one.0 - place).abs().total_cmp(&(other.0 - place).abs()));
    nearest.map(|(_, label)| label.to_owned()).unwrap_or_default()
}
