//! VMs in which nothing can be seen, because KVM emulates every instruction.

use trace::{Counters, VmMeta};

use crate::host;

/// Counters of a vCPU: page faults of the guest, and instructions that KVM emulated.
const FAULTS: &str = "pf_taken";
const EMULATED: &str = "insn_emulation";

/// Why the trace has no fault of a VM, if KVM-PVM only emulated it: CPL 0 of a guest that is not a
/// PVM guest never runs on the shadow tables. Firmware stays at CPL 0.
pub fn explain(vm: &VmMeta) -> Option<String> {
    if !host::emulates_guest_kernel() {
        return None;
    }
    let instructions = only_emulated(&vm.counters_before, vm.counters_after.as_ref()?)?;
    Some(format!(
        "VM {}: no fault, because KVM-PVM emulated all that the guest ran ({instructions} \
         instructions): it ran at CPL 0 only, as firmware does, and not on the shadow tables",
        vm.vm
    ))
}

/// How many instructions KVM emulated, if the guest ran without a single page fault.
fn only_emulated(before: &Counters, after: &Counters) -> Option<u64> {
    let grown = |name: &str| {
        let sum = |counters: &Counters| -> u64 {
            let values = counters.vcpus.iter().filter_map(|vcpu| vcpu.get(name));
            values.fold(0, |sum, value| sum.saturating_add(*value))
        };
        sum(after).saturating_sub(sum(before))
    };
    let instructions = grown(EMULATED);
    (grown(FAULTS) == 0 && instructions > 0).then_some(instructions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_without_faults_that_ran_was_emulated() {
        let counters = |faults: u64, emulated: u64| Counters {
            vcpus: vec![
                [(FAULTS, faults), (EMULATED, emulated)]
                    .map(|(name, value)| (name.to_owned(), value))
                    .into(),
            ],
            ..Counters::default()
        };
        assert_eq!(only_emulated(&counters(5, 10), &counters(5, 30)), Some(20));
        assert_eq!(
            only_emulated(&counters(5, 10), &counters(6, 30)),
            None,
            "a fault"
        );
        assert_eq!(
            only_emulated(&counters(5, 10), &counters(5, 10)),
            None,
            "it did not run"
        );
    }
}
