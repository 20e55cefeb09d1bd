//! All on one page: an HTML file that opens without network.

mod context;
mod figures;
mod method;

use askama::Template as _;
use trace::Trace;

use crate::{render::RenderError, study::Study};

pub use context::{Page, Section, TraceContext};

/// The page could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A figure could not be drawn.
    #[error(transparent)]
    Figure(#[from] RenderError),
    /// The template could not be filled.
    #[error("while writing the page: {0}")]
    Template(#[from] askama::Error),
}

/// What one trace adds to the page.
pub fn section(trace: &Trace, study: &Study) -> Result<TraceContext, ReportError> {
    context::trace(trace, study)
}

/// The page.
pub fn html(page: &Page) -> Result<String, ReportError> {
    Ok(page.render()?)
}
