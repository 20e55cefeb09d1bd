//! The workloads.

use abi::{MAX_PAGES, WorkloadId};

use crate::error::{UnknownWorkload, nearest};
use crate::{Kind, Param};

/// One entry of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Workload {
    /// Name, as in `collector run NAME`.
    pub name: &'static str,
    /// What it stresses, in one line.
    pub stresses: &'static str,
    /// The parameters it takes.
    pub params: &'static [Param],
    /// What its trace should look like.
    pub expected: &'static str,
    /// For tests of the VMM: found by name, but not listed.
    pub hidden: bool,
    /// Which guest code runs.
    pub(crate) id: WorkloadId,
}

/// The workloads to list, in the order to list them.
pub fn all() -> impl Iterator<Item = &'static Workload> {
    CATALOGUE.iter().filter(|workload| !workload.hidden)
}

/// The workload of this name, hidden ones included.
///
/// # Errors
/// [`UnknownWorkload`] with the names there are and the nearest one.
pub fn find(name: &str) -> Result<&'static Workload, UnknownWorkload> {
    CATALOGUE
        .iter()
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

static CATALOGUE: &[Workload] = &[
    Workload {
        name: "linear",
        stresses: "pure shadow faults: the guest maps its whole range before it touches a page",
        params: RANGE_PARAMS,
        expected: "Phase `map`: no fault in the work range; the guest only fills its own tables. \
                   Phase `touch`: one shadow fault a page and no fault of the guest's own; a new \
                   shadow page every 512 pages. Phase `check`: none. With write=false the faults of \
                   `touch` are reads that leave read-only entries, all to the host's page of zeroes, \
                   and phase `write` has two faults a page: one that makes the host replace that \
                   page, is invalidated by that and retried, and one that writes the entry.",
        hidden: false,
        id: WorkloadId::Linear,
    },
    Workload {
        name: "demand",
        stresses: "demand paging: each page costs a fault of the guest's own and a shadow fault",
        params: RANGE_PARAMS,
        expected: "Phase `touch`: for each page first a fault of the guest's own (injected), then the \
                   guest kernel's store to its page table, then one shadow fault at the same address; \
                   a new shadow page every 512 pages. Phase `check`: none. With write=false the \
                   shadow fault is a read, and phase `write` is that of `linear`.",
        hidden: false,
        id: WorkloadId::Demand,
    },
    Workload {
        name: "crash",
        stresses: "the VMM itself: a guest that misbehaves as asked",
        params: &[Param {
            name: "kind",
            doc: "how to misbehave",
            kind: Kind::Choice(&[
                "triple",
                "loop",
                "kernel-loop",
                "outside",
                "panic",
                "exception",
                "port",
                "bad-call",
                "bad-mailbox",
                "halt",
                "wrong-value",
                "port-read",
            ]),
            default: "panic",
        }],
        expected: "The run ends with an error that says what the guest did, and the trace is complete \
                   up to there.",
        hidden: true,
        id: WorkloadId::Crash,
    },
];

/// Parameters of the workloads that touch one range.
const RANGE_PARAMS: &[Param] = &[
    Param {
        name: "pages",
        doc: "pages of the work range, 4 KiB each",
        kind: Kind::Count {
            min: 1,
            max: MAX_PAGES,
        },
        default: "4096",
    },
    Param {
        name: "pattern",
        doc: "order in which pages are touched, each exactly once",
        kind: Kind::Choice(&["sequential", "stride", "random"]),
        default: "sequential",
    },
    Param {
        name: "stride",
        doc: "distance of two touches in pages; used by pattern=stride",
        kind: Kind::Count {
            min: 1,
            max: MAX_PAGES,
        },
        default: "8",
    },
    Param {
        name: "seed",
        doc: "picks the order of pattern=random, and the values written",
        kind: Kind::Seed,
        default: "1",
    },
    Param {
        name: "write",
        doc: "true: the first touch is a store; false: a load, and a second pass stores",
        kind: Kind::Flag,
        default: "true",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use abi::{CrashKind, Pattern};

    #[test]
    fn names_are_those_of_the_contract() {
        for workload in CATALOGUE {
            assert_eq!(workload.name, workload.id.name());
        }
        let choices = |workload: &Workload, name: &str| {
            let param = workload.params.iter().find(|param| param.name == name);
            match param.expect("the parameter exists").kind {
                Kind::Choice(words) => words.to_vec(),
                other => panic!("{name} is {other:?}"),
            }
        };
        let patterns: Vec<_> = Pattern::ALL.iter().map(|pattern| pattern.name()).collect();
        assert_eq!(choices(&CATALOGUE[0], "pattern"), patterns);
        let kinds: Vec<_> = CrashKind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(choices(&CATALOGUE[2], "kind"), kinds);
    }

    #[test]
    fn defaults_pass_their_own_check() {
        for param in CATALOGUE.iter().flat_map(|workload| workload.params) {
            param.parse(param.default).expect("the default is valid");
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = find("liner").unwrap_err().to_string();
        let expected =
            "no workload is called 'liner' (did you mean 'linear'?); there are: linear, demand";
        assert_eq!(error, expected);
        assert!(find("crash").is_ok(), "hidden, but there");
    }
}
