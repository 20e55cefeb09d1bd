//! What differs between the two sides besides what is to be compared.

use std::collections::BTreeSet;

use serde::Serialize;
use trace::{Meta, Trace};

use crate::text::plain;

/// Something of the recording that is not the same in all runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What.
    pub what: &'static str,
    /// Its values in base.
    pub base: Vec<String>,
    /// Its values in new.
    pub new: Vec<String>,
}

impl Difference {
    /// In words.
    pub fn words(&self) -> String {
        let list = |values: &[String]| match values {
            [] => "none".to_owned(),
            values => values.join("; "),
        };
        let (what, base, new) = (self.what, list(&self.base), list(&self.new));
        match self.base == self.new {
            true => format!("The runs of each side differ in the {what}: {base}."),
            false => format!("The sides differ in the {what}: base {base}; new {new}."),
        }
    }
}

/// A thing that both sides should have in common, and its values in a recording.
type Common = (&'static str, fn(&Meta) -> Vec<String>);

const COMMON: [Common; 8] = [
    ("workload", |meta| {
        let name = meta.workload.as_ref().map(|workload| workload.name.clone());
        vec![name.unwrap_or_else(|| "VMs found running".to_owned())]
    }),
    ("parameters", |meta| {
        let params = meta.workload.iter().flat_map(|workload| &workload.params);
        params
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }),
    ("kernel", |meta| {
        vec![format!("{} {}", meta.host.kernel, meta.host.kernel_version)]
    }),
    ("processor", |meta| {
        vec![format!("{}, {} CPUs", meta.host.cpu, meta.host.cpus)]
    }),
    ("hypervisor", |meta| {
        let parameters = meta.host.parameters.iter();
        let parameters = parameters.map(|(name, value)| format!("{name}={value}"));
        std::iter::once(meta.host.hypervisor.clone())
            .chain(parameters)
            .collect()
    }),
    ("probes", |meta| {
        let probes = meta.probes.iter().filter(|probe| probe.attached);
        probes
            .map(|probe| format!("{} by {}", probe.name, probe.hook))
            .collect()
    }),
    ("VMs", |meta| {
        let vcpus = meta.vms.iter().map(|vm| vm.vcpus.len());
        vcpus
            .map(|vcpus| format!("one with {vcpus} vCPUs"))
            .collect()
    }),
    ("recorder", |meta| {
        vec![format!("{} {}", meta.tool.name, meta.tool.version)]
    }),
];

/// What is not the same in all runs of both sides. Of lists, only what is not in all of them.
pub fn differences(base: &[Trace], new: &[Trace]) -> Vec<Difference> {
    let differ = |(what, of): &Common| {
        let lists = |side: &[Trace]| -> Vec<BTreeSet<String>> {
            let values = side.iter().map(|trace| of(trace.meta()));
            values
                .map(|values| values.iter().map(|value| plain(value)).collect())
                .collect()
        };
        let [base, new] = [base, new].map(lists);
        let all: Vec<_> = base.iter().chain(&new).collect();
        let shared = all
            .iter()
            .copied()
            .cloned()
            .reduce(|one, other| &one & &other)?;
        let apart = |side: &[BTreeSet<String>]| -> Vec<String> {
            let values: BTreeSet<_> = side.iter().flat_map(|list| list - &shared).collect();
            values.into_iter().collect()
        };
        let (base, new) = (apart(&base), apart(&new));
        let same = all.iter().all(|list| **list == shared);
        (!same).then_some(Difference { what, base, new })
    };
    COMMON.iter().filter_map(differ).collect()
}
