//! A sweep as one HTML page.

use askama::Template as _;

use super::{Curve, Curves, Line, document};
use crate::{
    render,
    report::{self, Figure, ReportError},
    text::{
        Section, plain,
        units::{count, duration, whole},
    },
};

/// The page.
#[derive(askama::Template)]
#[template(path = "sweep.html")]
struct Page {
    title: String,
    head: Vec<String>,
    sections: Vec<Section>,
    figures: Vec<Figure>,
    made_by: &'static str,
    style: &'static str,
}

const CAPTION: &str = "The median of the runs of each point. The bars are from the run with the \
                       lowest value to that with the highest. Where two lines are equal, the \
                       wider one is seen on both sides of the other.";

/// Curves and the table, on a page that needs no network.
pub fn html(curves: &Curves) -> Result<String, ReportError> {
    let drawn = curves.figures();
    let mut figures = Vec::new();
    for curve in curves.curves() {
        for (what, lines) in &drawn {
            let others = match curve.others.as_str() {
                "" => String::new(),
                others => format!(", {others}"),
            };
            let title = plain(&format!("{what} by {}{others}", curve.over));
            figures.push(report::figure(
                ("curve", &title),
                render::curves(&curve, lines, what),
                numbers(&curve, lines),
                // Said once.
                [if figures.is_empty() { CAPTION } else { "" }, "", ""],
            )?);
        }
    }
    let document = document(curves);
    let page = Page {
        title: curves.folder.clone(),
        head: document.head,
        sections: document.sections,
        figures,
        made_by: concat!("analyzer ", env!("CARGO_PKG_VERSION")),
        style: report::STYLE,
    };
    Ok(page.render()?)
}

/// The median of each line at the first and at the last point, for those who do not see them.
fn numbers(curve: &Curve<'_>, lines: &[Line]) -> String {
    let of = |line: &Line| {
        let points = curve.points.iter();
        let mut points = points.filter_map(|(value, point)| {
            let median = point.line(*line)?.median;
            let median = match line.is_time() {
                true => duration(median),
                false => count(whole(median)),
            };
            Some(format!("{median} at {value}"))
        });
        let first = points.next()?;
        let last = points.next_back().map(|last| format!(", {last}"));
        Some(format!(
            "{}: {first}{}",
            line.name(),
            last.unwrap_or_default()
        ))
    };
    let lines: Vec<_> = lines.iter().filter_map(of).collect();
    plain(&lines.join("; "))
}
