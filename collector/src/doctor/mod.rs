//! Can this host do it; what will be seen, what not, and why.
//!
//! ```text
//! facts   looks at the host, tries the probes, changes nothing
//! judge   from facts to findings: a pure function
//! text    the table for people
//! ```

mod facts;
mod judge;
#[cfg(test)]
mod tests;
mod text;

use serde::Serialize;
use trace::Tried;

pub use facts::Facts;
pub use judge::judge;
pub use text::print;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it must be.
    Ok,
    /// Less will be seen.
    Absent,
    /// It was not tried.
    Untried,
    /// Nothing can be recorded.
    Missing,
}

/// Heading under which a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Section {
    /// The machine, its KVM and this user.
    #[serde(rename = "host")]
    Host,
    /// What the kernel says of its types.
    #[serde(rename = "types")]
    Types,
    /// What the probes will show.
    #[serde(rename = "probes")]
    Probes,
    /// Columns of `faults` that will hold nothing.
    #[serde(rename = "columns")]
    Columns,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// See [`Section`].
    pub section: Section,
    /// What was looked at.
    pub what: String,
    /// How it came out.
    pub state: State,
    /// What was found; of a probe, what it shows, or what the results lack without it.
    pub found: String,
    /// Where a probe is attached.
    pub hook: Option<String>,
    /// Where else that was tried, and why the kernel refused.
    pub tried: Vec<Tried>,
    /// What would mend it.
    pub remedy: Option<String>,
}

/// All checks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `collector run` will work here (as root).
    pub able: bool,
    /// In one line.
    pub verdict: String,
    /// In the order in which `run` needs them.
    pub findings: Vec<Finding>,
}
