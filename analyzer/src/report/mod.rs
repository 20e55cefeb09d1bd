//! All on one page: an HTML file that opens without network.

mod answers;
mod beside;
mod context;
mod embedded;
mod explained;
mod figures;
mod glossary;
mod html;
mod method;

use std::sync::Arc;

use askama::Template as _;
use trace::Trace;

use crate::{
    render::RenderError,
    study::Study,
    symbols::Symbols,
    text::{self, Document},
};

pub use beside::{Beside, Other};
pub use context::{Page, Section, TraceContext};
pub use explained::Explained;
pub use figures::Figure;
pub(crate) use figures::figure;
pub use glossary::Words;
pub(crate) use html::{breakable, with_code};

/// What every page of ours looks like.
pub(crate) const STYLE: &str = include_str!("report.css");
/// What works on the page: cursor, zoom, filters, the tables at a moment. It asks for nothing,
/// stores nothing, and without it the page has the same numbers.
const SCRIPT: &str = concat!(
    "\"use strict\";\n(() => {\n",
    include_str!("script/common.js"),
    include_str!("script/stream.js"),
    include_str!("script/tables.js"),
    include_str!("script/vm.js"),
    include_str!("script/figure.js"),
    include_str!("script/moment.js"),
    include_str!("script/start.js"),
    "})();\n",
);
/// Bytes of steps on a page, before compression: what keeps it below 5 MiB.
pub const STEPS: usize = 4 << 20;

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
    /// The data of the page's script could not be written.
    #[error("while writing the data of the page: {0}")]
    Data(#[from] serde_json::Error),
    /// It could not be compressed.
    #[error("while compressing the data of the page: {0}")]
    Compress(#[from] std::io::Error),
}

/// What one trace adds to the page; `symbols` name the guest's functions.
pub fn section(
    trace: &Trace,
    study: &Study,
    symbols: &Arc<Symbols>,
) -> Result<TraceContext, ReportError> {
    context::trace(trace, study, symbols)
}

/// The page.
pub fn html(page: &Page) -> Result<String, ReportError> {
    Ok(page.render()?)
}

/// The same without figures, for an issue or a paper.
pub fn document(page: Page) -> Document {
    let mut document = Document::default();
    if let Some(beside) = page.beside {
        let figures = beside.figures.iter();
        let figures = figures.map(|figure| format!("{}: {}", figure.title, figure.numbers));
        document.sections.push(text::Section {
            title: "Side by side".to_owned(),
            lines: beside.warnings.into_iter().chain(figures).collect(),
            tables: vec![beside.ratios],
            ..text::Section::default()
        });
        for other in beside.others {
            let lines = [other.verdict.text].into_iter();
            document.sections.push(text::Section {
                title: other.title,
                lines: lines.chain(other.head).collect(),
                tables: other.tables,
                ..text::Section::default()
            });
        }
    }
    for trace in page.traces {
        document.sections.push(text::Section {
            title: format!("{}: {}", trace.name, trace.about),
            lines: [format!("recorded {}", trace.date), trace.times]
                .into_iter()
                .filter(|line| !line.is_empty())
                .chain(trace.warnings)
                .chain([trace.verdict])
                .chain(trace.not_shown)
                .collect(),
            ..text::Section::default()
        });
        for vm in trace.sections {
            let figures = vm.figures.iter();
            let figures = figures.map(|figure| format!("{}: {}", figure.title, figure.numbers));
            document.sections.push(text::Section {
                title: vm.title,
                lines: vm.answers.into_iter().chain(figures).collect(),
                tables: [vm.costs, vm.payers, vm.proof].concat(),
                ..text::Section::default()
            });
            document.sections.extend(words(&vm.glossary));
        }
    }
    document
}

/// The glossary as a part of a document; none without a word.
fn words(glossary: &[Words]) -> Option<text::Section> {
    let columns = ["of", "word", "meaning"].map(text::Column::words);
    let mut table = text::Table::new("words", "What the words mean", columns);
    for of in glossary {
        for (word, meaning) in &of.words {
            table.row([of.title, word, meaning].map(text::Cell::words));
        }
    }
    (!table.is_empty()).then(|| text::Section {
        tables: vec![table],
        ..text::Section::default()
    })
}
