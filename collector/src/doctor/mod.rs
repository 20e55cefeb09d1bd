//! Checks whether this host can record: what will be seen, what not, and why.
//!
//! ```text
//! facts   collects facts of the host, tries the probes, changes nothing
//! bugs    known bugs of the shadow MMU, by the kernel's version
//! judge   from facts to findings: a pure function
//! text    the table for people
//! ```

mod bugs;
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

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As needed.
    Ok,
    /// A recording is possible, but shows less.
    Absent,
    /// Not tried.
    Untried,
    /// Worth a look: a recording does not depend on it.
    Advice,
    /// It cannot be known here.
    Unknown,
    /// Without it nothing can be recorded.
    Missing,
}

/// The heading of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Section {
    /// The machine, its KVM and this user.
    #[serde(rename = "host")]
    Host,
    /// The kernel's types.
    #[serde(rename = "types")]
    Types,
    /// What the probes will show.
    #[serde(rename = "probes")]
    Probes,
    /// Columns of `faults` that will be empty.
    #[serde(rename = "columns")]
    Columns,
    /// Known bugs of the kernel's shadow MMU.
    #[serde(rename = "bugs")]
    Bugs,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// See [`Section`].
    pub section: Section,
    /// What was checked.
    pub what: String,
    /// The result.
    pub state: State,
    /// What was found; of a probe, what it shows, or what the results lack without it.
    pub found: String,
    /// Where a probe is attached.
    pub hook: Option<String>,
    /// Other places that were tried, and why the kernel refused.
    pub tried: Vec<Tried>,
    /// What would help.
    pub remedy: Option<String>,
}

/// All checks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `collector run` will work here (as root).
    pub able: bool,
    /// The result in one line, with the command to run next.
    pub verdict: String,
    /// In the order in which `run` needs them.
    pub findings: Vec<Finding>,
}
