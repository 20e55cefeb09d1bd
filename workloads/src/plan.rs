//! A workload with checked parameters: what to run and what to expect.

use abi::layout::WORK;
use abi::{ABI_VERSION, BootInfo, Gpa, Gva, MAGIC, MAX_PARAMS, WorkloadId};

use crate::error::nearest;
use crate::memory::Pools;
use crate::{Backing, Host, ParamError, Slot, Value, Workload};

/// Everything a VMM needs to run a workload, and what its trace should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The workload.
    pub workload: &'static Workload,
    /// Every parameter's value, defaults included, in the catalogue's order.
    pub values: Vec<(&'static str, Value)>,
    /// What the guest is told.
    pub boot_info: BootInfo,
    /// Guest memory in bytes, from guest-physical address 0; a multiple of 4096.
    pub memory_bytes: u64,
    /// The guest-virtual range that CPL3 works on.
    pub work: WorkRange,
    /// Faults to expect there.
    pub expected: Counts,
    /// What the VMM does beside running the guest.
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

/// Faults in the work range over the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Faults of the guest's own, which KVM hands to the guest kernel.
    pub guest_faults: u64,
    /// Faults that only the shadow tables cause and that write an entry; the guest never
    /// sees them.
    pub shadow_faults: u64,
    /// Faults that KVM gives up half-way and lets happen again, because the host changed
    /// its own mapping of the page meanwhile.
    pub retried_faults: u64,
}

impl Plan {
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
    /// Checks the parameters given, fills in the defaults and lays out the guest.
    ///
    /// # Errors
    /// [`ParamError`] for the first parameter that is unknown, given twice or refused.
    pub fn plan(&'static self, given: &[(String, String)]) -> Result<Plan, ParamError> {
        let values = self.values(given)?;
        let pages = match values.first() {
            Some(("pages", Value::Count(pages))) => *pages,
            _ => 1,
        };
        let boot_info = self.boot_info(&values, Pools::new(pages));
        let memory_bytes = boot_info.memory_bytes;
        Ok(Plan {
            workload: self,
            boot_info,
            memory_bytes,
            work: WorkRange { start: WORK, pages },
            expected: self.counts(pages, &values),
            host: Host {
                slots: vec![Slot {
                    id: 0,
                    gpa: Gpa(0),
                    bytes: memory_bytes,
                    backing: Backing::Small,
                }],
                ..Host::default()
            },
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
            vcpus: 1,
            reserved: 0,
            memory_bytes: pools.memory_bytes(),
            tables: pools.tables,
            work: pools.work,
            params,
        }
    }

    /// With `write=false` KVM maps each page read-only, for two reasons: the guest's entry is
    /// clean, so KVM must see the first store to set its dirty bit; and the host backs a page
    /// that was only read with its one page of zeroes. The store then faults again, the host
    /// replaces the page of zeroes, which invalidates what KVM has just looked up, and the
    /// fault is retried: a third exit, the second that writes an entry.
    fn counts(&self, pages: u64, values: &[(&'static str, Value)]) -> Counts {
        let loads_first = u64::from(values.contains(&("write", Value::Flag(false)))) * pages;
        let touched = Counts {
            guest_faults: 0,
            shadow_faults: pages + loads_first,
            retried_faults: loads_first,
        };
        match self.id {
            WorkloadId::Linear => touched,
            WorkloadId::Demand => Counts {
                guest_faults: pages,
                ..touched
            },
            WorkloadId::Crash => Counts::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Counts, ParamError, Plan, Value, find};

    fn plan(workload: &str, given: &[(&str, &str)]) -> Result<Plan, ParamError> {
        let given: Vec<_> = given
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        find(workload).expect("in the catalogue").plan(&given)
    }

    #[test]
    fn defaults_fill_what_is_not_given() {
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
                retried_faults,
            };
            assert_eq!(plan.expected, expected, "{workload} {write}");
        }
    }

    #[test]
    fn refusals_say_what_to_do() {
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
