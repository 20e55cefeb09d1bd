//! The workloads.

mod cpus;
mod host;
mod micro;
mod modes;
mod range;
mod tables;

use abi::WorkloadId;

use crate::error::{UnknownWorkload, nearest};
use crate::{Kind, Param};

/// An entry of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Workload {
    /// Name, as in `collector run NAME`.
    pub name: &'static str,
    /// What it stresses, in one line.
    pub stresses: &'static str,
    /// The parameters that it takes.
    pub params: &'static [Param],
    /// What its trace should look like.
    pub expected: &'static str,
    /// For tests of the VMM: can be found by name, but is not listed.
    pub hidden: bool,
    /// The guest code to run.
    pub(crate) id: WorkloadId,
}

/// The workloads that are not hidden, in the order of the catalogue.
pub fn all() -> impl Iterator<Item = &'static Workload> {
    catalogue().filter(|workload| !workload.hidden)
}

/// The workload of this name, hidden ones included.
///
/// # Errors
/// [`UnknownWorkload`] with all names and the most similar one.
pub fn find(name: &str) -> Result<&'static Workload, UnknownWorkload> {
    catalogue()
        .find(|workload| workload.name == name)
        .ok_or_else(|| {
            let known: Vec<_> = all().map(|workload| workload.name).collect();
            UnknownWorkload {
                name: name.to_owned(),
                nearest: nearest(name, &known),
                known,
            }
        })
}

fn catalogue() -> impl Iterator<Item = &'static Workload> {
    [
        range::WORKLOADS,
        tables::WORKLOADS,
        host::WORKLOADS,
        cpus::WORKLOADS,
        micro::WORKLOADS,
        modes::WORKLOADS,
    ]
    .into_iter()
    .flatten()
}

/// A whole number from `min` to `max`.
const fn count(name: &'static str, doc: &'static str, [min, max]: [u64; 2]) -> Param {
    Param {
        name,
        doc,
        kind: Kind::Count { min, max },
        default: "",
    }
}

impl Param {
    /// With a default value.
    const fn or(self, default: &'static str) -> Self {
        Self { default, ..self }
    }
}

/// The seed of everything random.
const SEED: Param = Param {
    name: "seed",
    doc: "seed of the values, orders and choices",
    kind: Kind::Seed,
    default: "1",
};

#[cfg(test)]
mod tests {
    use super::*;
    use abi::{CrashKind, Pattern, Shape};

    #[test]
    fn names_match_the_contract() {
        let ids: Vec<_> = catalogue().map(|workload| workload.id).collect();
        for workload in catalogue() {
            assert_eq!(workload.name, workload.id.name());
        }
        for id in WorkloadId::ALL {
            assert_eq!(ids.iter().filter(|one| *one == id).count(), 1, "{id}");
        }
        let choices = |workload: &Workload, name: &str| {
            let param = workload.params.iter().find(|param| param.name == name);
            match param.expect("the parameter exists").kind {
                Kind::Choice(words) => words.to_vec(),
                other => panic!("{name} is {other:?}"),
            }
        };
        let patterns: Vec<_> = Pattern::ALL.iter().map(|pattern| pattern.name()).collect();
        assert_eq!(choices(find("linear").unwrap(), "pattern"), patterns);
        let shapes: Vec<_> = Shape::ALL.iter().map(|shape| shape.name()).collect();
        assert_eq!(choices(find("modes").unwrap(), "shape"), shapes);
        let kinds: Vec<_> = CrashKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(choices(find("crash").unwrap(), "kind"), kinds);
    }

    #[test]
    fn defaults_are_valid() {
        for param in catalogue().flat_map(|workload| workload.params) {
            param.parse(param.default).expect("the default is valid");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = find("liner").unwrap_err().to_string();
        let expected =
            "no workload is called 'liner' (did you mean 'linear'?); there are: linear, demand, ";
        assert!(error.starts_with(expected), "{error}");
        assert!(find("crash").is_ok(), "hidden, but known");
    }
}
