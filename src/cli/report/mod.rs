//! The report of `neap simulate` as a page: one HTML file that asks for nothing from anywhere.
//!
//! [`page`] lays it out with maud, which escapes every text that comes in, since names come from traces. What the lines
//! show is in `curves`, how they are drawn in `figure` and `axis`. No moment of making stands in it: the same simulation
//! gives the same bytes.

mod axis;
mod curves;
mod figure;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use neap_scheduler::sim::cluster::Report;

pub(super) use curves::ascending;
use figure::{Figure, Line, Paint};

pub(super) use figure::DrawError;

const STYLE: &str = include_str!("page.css");

/// No script, no request; styles and figures are in the page.
const ALLOWED: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// What one policy made of the trace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course<'a> {
    /// Its name.
    pub(super) policy: &'a str,
    /// What came of it.
    pub(super) report: &'a Report,
}

/// Everything on the page.
#[derive(Debug)]
pub(super) struct Page<'a> {
    /// What was simulated.
    pub(super) trace: &'a str,
    /// The simulations, one or two.
    pub(super) courses: &'a [Course<'a>],
    /// The figures of the summary: a name, and one value for each course, and with two the change.
    pub(super) summary: Vec<(String, Vec<String>)>,
    /// What was said about the comparison, a line each.
    pub(super) remarks: Vec<String>,
    /// How it was made: the command, the seed and so on.
    pub(super) made: Vec<(&'static str, String)>,
}

/// Writes the page.
///
/// # Errors
///
/// [`DrawError`], if a figure cannot be drawn.
pub(super) fn page(page: &Page<'_>) -> Result<String, DrawError> {
    let figures = curves::figures(page.courses).iter().map(figure).collect::<Result<Vec<_>, _>>()?;
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(ALLOWED);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Simulation of " (page.trace) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Simulation of " (page.trace) }
                    p { (policies(page.courses)) }
                }
                main {
                    (summary(page))
                    section.figures { @for figure in &figures { (figure) } }
                    @if !page.remarks.is_empty() {
                        section { h2 { "What changes" } ul { @for remark in &page.remarks { li { (remark) } } } }
                    }
                    section {
                        h2 { "How it was made" }
                        dl { @for (name, value) in &page.made { dt { (name) } dd { (value) } } }
                    }
                }
            }
        }
    };
    Ok(markup.into_string() + "\n")
}

fn policies(courses: &[Course<'_>]) -> Markup {
    html! {
        @for (at, course) in courses.iter().enumerate() {
            @if at > 0 { " and " } @else { "Policy " }
            (swatch(Paint::Policy(at))) strong { (course.policy) }
        }
    }
}

fn summary(page: &Page<'_>) -> Markup {
    html! {
        section.summary {
            table {
                thead {
                    tr {
                        th scope="col" { "Summary" }
                        @for (at, course) in page.courses.iter().enumerate() {
                            th scope="col" { (swatch(Paint::Policy(at))) (course.policy) }
                        }
                        @if page.courses.len() > 1 { th scope="col" { "change" } }
                    }
                }
                tbody {
                    @for (name, values) in &page.summary {
                        tr { th scope="row" { (name) } @for value in values { td { (value) } } }
                    }
                }
            }
        }
    }
}

fn figure(figure: &Figure) -> Result<Markup, DrawError> {
    let drawing = figure.svg()?;
    Ok(html! {
        figure {
            h2 { (figure.title) }
            svg viewBox=(Figure::view_box()) xmlns="http://www.w3.org/2000/svg" role="img" aria-label=(spoken(figure)) {
                (PreEscaped(drawing))
            }
            figcaption {
                p.legend {
                    @for line in &figure.lines { span { (swatch(line.paint)) (line.label) } }
                }
                p { (figure.note) }
            }
        }
    })
}

/// What the figure says to who does not see it: its title, and where each line ends.
fn spoken(figure: &Figure) -> String {
    let end = |line: &Line| line.points.last().map(|point| format!("{} ends at {}", line.label, axis::plain(point.1)));
    let ends: Vec<String> = figure.lines.iter().filter_map(end).collect();
    format!("{}: {} by {}. {}", figure.title, figure.y.name, figure.x.name, ends.join("; "))
}

fn swatch(paint: Paint) -> Markup {
    let class = match paint {
        Paint::Policy(0) => "swatch first",
        Paint::Policy(_) => "swatch second",
        Paint::Capacity(0) => "swatch first there",
        _ => "swatch second there",
    };
    html! { span class=(class) aria-hidden="true" {} }
}
