//! A workload with checked parameters: what to run, and what to expect.

use abi::layout::WORK;
use abi::{ABI_VERSION, BootInfo, Gva, MAGIC, MAX_PARAMS, Shape, WorkloadId};

use crate::error::nearest;
use crate::given::Given;
use crate::memory::{Needs, Pools};
use crate::theory::{self, Counts};
use crate::{Host, ParamError, Value, Workload, stage};

/// Everything that a VMM needs to run a workload, and what to expect in the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The workload.
    pub workload: &'static Workload,
    /// Every parameter's value, defaults included, in the catalogue's order.
    pub values: Vec<(&'static str, Value)>,
    /// What the guest gets at its start.
    pub boot_info: BootInfo,
    /// Guest memory in bytes, from guest-physical address 0; a multiple of 4096.
    pub memory_bytes: u64,
    /// The guest-virtual range that CPL3 works on.
    pub work: WorkRange,
    /// The counts to expect there; `None` if they depend on chance or the host.
    pub expected: Option<Counts>,
    /// The host's part.
    pub host: Host,
}

/// A range of guest-virtual pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkRange {
    /// First byte.
    pub start: Gva,
    /// 4 KiB pages.
    pub pages: u64,
}

impl WorkRange {
    /// First byte after the range.
    #[must_use]
    pub fn end(&self) -> Gva {
        self.start.add_pages(self.pages)
    }

    /// Whether `gva` lies in the range.
    #[must_use]
    pub fn contains(&self, gva: Gva) -> bool {
        (self.start..self.end()).contains(&gva)
    }
}

impl Plan {
    /// The shape that the guest of `modes` takes on; `None` for other workloads.
    #[must_use]
    pub fn shape(&self) -> Option<Shape> {
        Shape::from_name(Given(&self.values).choice("shape"))
    }

    /// The values as text, for a trace's metadata; [`Workload::plan`] accepts them again.
    #[must_use]
    pub fn params(&self) -> Vec<(String, String)> {
        self.values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_string()))
            .collect()
    }
}

impl Workload {
    /// Checks the given parameters, adds the defaults and lays out guest memory.
    ///
    /// # Errors
    /// [`ParamError`] for the first parameter that is unknown, given twice or refused.
    pub fn plan(&'static self, given: &[(String, String)]) -> Result<Plan, ParamError> {
        let values = self.values(given)?;
        let given = Given(&values);
        if self.id == WorkloadId::Unsync {
            together(given, "tables", "pages", UNSYNC_PAGES)?;
        }
        let needs = Needs::of(self.id, given);
        let pools = Pools::new(needs);
        let boot_info = self.boot_info(&values, pools);
        Ok(Plan {
            workload: self,
            boot_info,
            memory_bytes: boot_info.memory_bytes,
            work: WorkRange {
                start: start(given, &pools),
                pages: needs.pages,
            },
            expected: theory::counts(self.id, given),
            host: stage::host(self.id, given, &pools),
            values,
        })
    }

    fn values(
        &'static self,
        given: &[(String, String)],
    ) -> Result<Vec<(&'static str, Value)>, ParamError> {
        for (name, _) in given {
            if !self.params.iter().any(|param| param.name == name) {
                let known: Vec<_> = self.params.iter().map(|param| param.name).collect();
                return Err(ParamError::Unknown {
                    workload: self.name,
                    name: name.clone(),
                    nearest: nearest(name, &known),
                    known,
                });
            }
        }
        let value = |param: &'static crate::Param| {
            let mut texts = given
                .iter()
                .filter(|(name, _)| name == param.name)
                .map(|(_, text)| text);
            match (texts.next(), texts.next()) {
                (Some(first), Some(second)) => Err(ParamError::Twice {
                    name: param.name,
                    first: first.clone(),
                    second: second.clone(),
                }),
                (text, _) => {
                    let text = text.map_or(param.default, String::as_str);
                    Ok((param.name, param.parse(text)?))
                }
            }
        };
        self.params.iter().map(value).collect()
    }

    fn boot_info(&self, values: &[(&'static str, Value)], pools: Pools) -> BootInfo {
        let mut params = [0; MAX_PARAMS];
        for ((to, param), (_, value)) in params.iter_mut().zip(self.params).zip(values) {
            *to = param.number(*value);
        }
        BootInfo {
            magic: MAGIC,
            version: ABI_VERSION,
            workload: self.id.number(),
            vcpus: vcpus(values),
            reserved: 0,
            memory_bytes: pools.memory_bytes(),
            tables: pools.tables,
            work: pools.work,
            params,
        }
    }
}

/// Where the guest works: only the shapes of `modes` have their own ranges.
fn start(given: Given<'_>, pools: &Pools) -> Gva {
    let shape = Shape::from_name(given.choice("shape"));
    shape.map_or(WORK, |shape| shape.work(pools.work.start))
}

/// Pages that `unsync` uses at most: the guest keeps five words of each.
const UNSYNC_PAGES: u64 = 8192;

/// Refuses two counts whose product is more than `most`.
fn together(
    given: Given<'_>,
    first: &'static str,
    second: &'static str,
    most: u64,
) -> Result<(), ParamError> {
    let product = given.count(first) * given.count(second);
    if product <= most {
        return Ok(());
    }
    let text = |name| format!("{name}={}", given.count(name));
    Err(ParamError::Together {
        first: text(first),
        second: text(second),
        product,
        most,
    })
}

/// The parameter `vcpus`, or 1.
fn vcpus(values: &[(&'static str, Value)]) -> u32 {
    let given = Given(values).count("vcpus");
    // The catalogue limits it to `MAX_VCPUS`.
    u32::try_from(given.max(1)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use crate::{Backing, Counts, ParamError, Plan, Value, all, find};

    fn plan(workload: &str, given: &[(&str, &str)]) -> Result<Plan, ParamError> {
        let given: Vec<_> = given
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        find(workload).expect("in the catalogue").plan(&given)
    }

    #[test]
    fn counts_that_are_too_many_together_are_refused() {
        assert!(plan("unsync", &[("tables", "4096"), ("pages", "2")]).is_ok());
        let error = plan("unsync", &[("tables", "4096")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "tables=4096 times pages=16 is 65536: at most 8192; lower one of them"
        );
    }

    #[test]
    fn defaults_complete_the_parameters() {
        let plan = plan("demand", &[("seed", "0x2a")]).unwrap();
        assert_eq!(plan.values[0], ("pages", Value::Count(4096)));
        let texts: Vec<_> = plan
            .params()
            .into_iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let expected = [
            "pages=4096",
            "pattern=sequential",
            "stride=8",
            "seed=42",
            "write=true",
        ];
        assert_eq!(texts, expected);
        assert_eq!(plan.boot_info.params[..6], [4096, 0, 8, 42, 1, 0]);
        assert_eq!(plan.memory_bytes % 4096, 0);
        assert!(plan.work.contains(plan.work.start));
        assert!(!plan.work.contains(plan.work.end()));
        assert_eq!(plan.workload.plan(&plan.params()).as_ref(), Ok(&plan));
    }

    #[test]
    fn counts_follow_the_passes() {
        for (workload, write, [guest_faults, shadow_faults, retried_faults]) in [
            ("linear", "true", [0, 7, 0]),
            ("linear", "false", [0, 14, 7]),
            ("demand", "true", [7, 7, 0]),
            ("demand", "false", [7, 14, 7]),
        ] {
            let plan = plan(workload, &[("pages", "7"), ("write", write)]).unwrap();
            let expected = Counts {
                guest_faults,
                shadow_faults,
                retried_faults: Some(retried_faults),
                shadow_pages: 3,
                entries: 7,
            };
            assert_eq!(plan.expected, Some(expected), "{workload} {write}");
        }
    }

    #[test]
    fn memslots_cover_memory_without_gaps() {
        for workload in all() {
            let plan = plan(workload.name, &[]).unwrap();
            let mut end = 0;
            for (id, slot) in (0..).zip(&plan.host.slots) {
                assert_eq!((slot.id, slot.gpa.0), (id, end), "{}", workload.name);
                end += slot.bytes;
            }
            assert_eq!(end, plan.memory_bytes, "{}", workload.name);
        }
        let huge = plan("huge", &[("backing", "huge")]).unwrap();
        let slot = huge.host.slots[1];
        assert_eq!(slot.backing, Backing::Huge);
        assert!(slot.gpa.0.is_multiple_of(2 << 20) && slot.bytes.is_multiple_of(2 << 20));
    }

    #[test]
    fn some_workloads_limit_the_shadow_pages() {
        let bound = |workload, given: &[_]| plan(workload, given).unwrap().host.mmu_pages;
        assert_eq!(bound("linear", &[]), None);
        assert_eq!(bound("recycle", &[("mmu_pages", "70")]), Some(70));
        assert!(bound("switch", &[("spaces", "64")]) > Some(64 * 4));
    }

    #[test]
    fn the_number_of_cpus_is_a_parameter() {
        assert_eq!(plan("linear", &[]).unwrap().boot_info.vcpus, 1);
        let plan = plan("smp", &[("vcpus", "4")]).unwrap();
        assert_eq!(plan.boot_info.vcpus, 4);
    }

    #[test]
    fn errors_say_what_is_allowed() {
        for (given, message) in [
            (
                &[("page", "1")][..],
                "workload 'linear' has no parameter 'page' (did you mean 'pages'?); it takes: \
                 pages, pattern, stride, seed, write",
            ),
            (
                &[("pages", "524289")],
                "parameter 'pages' cannot be '524289': it takes a whole number from 1 to 524288",
            ),
            (
                &[("seed", "1"), ("seed", "2")],
                "parameter 'seed' is given twice: '1', then '2'; give it once",
            ),
        ] {
            assert_eq!(plan("linear", given).unwrap_err().to_string(), message);
        }
    }
}
