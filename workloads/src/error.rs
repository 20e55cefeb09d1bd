//! Errors of a workload's name or parameters.

use thiserror::Error;

/// No workload has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "no workload is called '{name}'{}; there are: {}",
    did_you_mean(*nearest),
    known.join(", ")
)]
pub struct UnknownWorkload {
    /// The name given.
    pub name: String,
    /// The most similar name, if one is similar.
    pub nearest: Option<&'static str>,
    /// All names.
    pub known: Vec<&'static str>,
}

/// A parameter that a workload refuses.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParamError {
    /// The workload has no such parameter.
    #[error(
        "workload '{workload}' has no parameter '{name}'{}; it takes: {}",
        did_you_mean(*nearest),
        known.join(", ")
    )]
    Unknown {
        /// Name of the workload.
        workload: &'static str,
        /// The parameter given.
        name: String,
        /// The most similar name, if one is similar.
        nearest: Option<&'static str>,
        /// All the workload's parameters.
        known: Vec<&'static str>,
    },
    /// The value does not fit the parameter's kind.
    #[error("parameter '{name}' cannot be '{found}': it takes {expected}")]
    Value {
        /// Name of the parameter.
        name: &'static str,
        /// The value given.
        found: String,
        /// The values that it takes, as text.
        expected: String,
    },
    /// The parameter was given twice.
    #[error("parameter '{name}' is given twice: '{first}', then '{second}'; give it once")]
    Twice {
        /// Name of the parameter.
        name: &'static str,
        /// The first value.
        first: String,
        /// The second value.
        second: String,
    },
    /// Each value is possible, but not both together.
    #[error("{first} times {second} is {product}: at most {most}; lower one of them")]
    Together {
        /// A parameter with its value.
        first: String,
        /// The other one.
        second: String,
        /// What they make.
        product: u64,
        /// The most that is possible.
        most: u64,
    },
}

fn did_you_mean(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!(" (did you mean '{name}'?)"))
}

/// The name in `known` with the smallest edit distance to `name`, if that is small.
pub(crate) fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let scored = known.iter().map(|&one| (edits(name, one), one));
    let (edits, one) = scored.min_by_key(|&(edits, _)| edits)?;
    (edits <= one.len().div_ceil(3)).then_some(one)
}

/// Levenshtein distance in bytes, on the first 64 bytes of `a`.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_similar_name_is_suggested() {
        let known = ["linear", "demand"];
        assert_eq!(nearest("liner", &known), Some("linear"));
        assert_eq!(nearest("demnad", &known), Some("demand"));
        assert_eq!(nearest("boot", &known), None);
        assert_eq!(nearest("", &known), None);
    }
}
