//! What `explain` gives: the facts of one thing, as text or as JSON.

use serde::Serialize;
use serde_json::Value;
use trace::TraceError;

use super::{
    facts::{ChangeFacts, FaultFacts, PageFacts, RecordFacts},
    render::Lines,
    story,
};
use crate::study::StudyError;

/// Why something could not be explained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExplainError {
    /// The VM has no such thing.
    #[error("this VM has {wanted}; {choice}{hint}")]
    NoSuch {
        /// What is missing, and how many like it the VM has.
        wanted: String,
        /// What the VM has instead.
        choice: String,
        /// Where such changes are, if the recording does not see them as such.
        hint: &'static str,
        /// Arguments of `explain` that do select something.
        instead: Option<String>,
    },
    /// The trace could not be read that far.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// What came of an act could not be followed.
    #[error(transparent)]
    Study(#[from] StudyError),
}

/// The facts of what was asked for.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "explains", rename_all = "snake_case")]
pub enum Explanation {
    /// A fault.
    Fault(Box<FaultFacts>),
    /// A change of an entry.
    Change(Box<ChangeFacts>),
    /// The life of a shadow page.
    Page(Box<PageFacts>),
    /// Another record.
    Record(Box<RecordFacts>),
}

impl Explanation {
    /// As text, in lines of fewer than `width` columns.
    pub fn text(&self, width: usize) -> String {
        let mut lines = Lines::new(width);
        match self {
            Self::Fault(of) => story::fault(&mut lines, of),
            Self::Change(of) => story::change(&mut lines, of),
            Self::Page(of) => story::page(&mut lines, of),
            Self::Record(of) => story::record(&mut lines, of),
        }
        lines.text()
    }

    /// As JSON. Absent values are left out.
    pub fn json(&self) -> serde_json::Result<Value> {
        serde_json::to_value(self).map(without_nulls)
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        Value::Array(values) => Value::Array(values.into_iter().map(without_nulls).collect()),
        other => other,
    }
}
