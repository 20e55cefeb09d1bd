//! A sweep as one HTML page.

use askama::Template as _;

use super::{Curves, document};
use crate::{
    render,
    report::{self, ReportError},
    text::{Section, plain},
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

/// A figure with its words.
struct Figure {
    title: String,
    svg: String,
    caption: &'static str,
}

const CAPTION: &str = "The median of the runs of each point; the bars are from the lowest run to \
                       the highest.";

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
            figures.push(Figure {
                title: plain(&format!("{what} by {}{others}", curve.over)),
                svg: render::curves(&curve, lines)?,
                caption: CAPTION,
            });
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
