//! All that the probes and the trace need of the kernel's types.

use std::{collections::BTreeMap, slice};

use btf_rs::Type;
use bytemuck::Zeroable as _;
use events::{ABSENT, Config, FIELDS, Offsets};

use super::{BtfError, KernelTypes};

/// KVM's own account of what a shadow page is; only KVM has it.
const SHADOW_PAGE: &str = "kvm_mmu_page";

/// Fields of `kvm_mmu_page_role` that the results need; some moved in Linux 7.2.
const ROLE: &[&str] = &[
    "level",
    "direct",
    "access",
    "invalid",
    "has_4_byte_gpte",
    "quadrant",
    "passthrough",
    "smm",
    "guest_mode",
];

/// What a fault's handler returns; renumbered between Linux 6.1 and 6.12.
const OUTCOME: &str = "RET_PF_";

/// What the probes need to know, and what to write into the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// For the probes; what is no field is still 0.
    pub config: Config,
    /// Every field looked up, with its byte offset.
    pub offsets: BTreeMap<String, Option<u32>>,
    /// Bit-fields of `kvm_mmu_page_role`: lowest bit, width.
    pub role: BTreeMap<String, [u8; 2]>,
    /// Enumerators that begin with `RET_PF_`.
    pub enums: BTreeMap<String, i64>,
}

impl KernelTypes {
    /// Finds every field that the probes read.
    pub fn resolve(&self) -> Result<Resolved, BtfError> {
        if self.size(SHADOW_PAGE).is_none() {
            return Err(BtfError::NoKvm(SHADOW_PAGE));
        }
        let role = self.role();
        let [shift, width] = *role
            .get("level")
            .ok_or_else(|| BtfError::Missing("kvm_mmu_page_role.level".to_owned()))?;
        let [direct, _] = *role
            .get("direct")
            .ok_or_else(|| BtfError::Missing("kvm_mmu_page_role.direct".to_owned()))?;
        let mut found = BTreeMap::new();
        let mut offsets = Offsets::zeroed();
        let numbers: &mut [u32] = bytemuck::cast_slice_mut(slice::from_mut(&mut offsets));
        for (number, field) in numbers.iter_mut().zip(FIELDS) {
            let name = format!("{}.{}", field.of, field.path);
            let offset = self.offset(field.of, field.path);
            if field.needed && offset.is_none() {
                return Err(BtfError::Missing(name));
            }
            *number = offset.unwrap_or(ABSENT);
            found.insert(name, offset);
        }
        self.counters_of_a_fault(&offsets, &mut found)?;
        let config = Config {
            offsets,
            keeps_rip: u32::from(self.keeps_rip(&offsets)),
            role_level_shift: u32::from(shift),
            role_level_width: u32::from(width),
            role_direct_shift: u32::from(direct),
            ..Config::EMPTY
        };
        Ok(Resolved {
            config,
            offsets: found,
            role,
            enums: self.outcomes(),
        })
    }

    /// The probes read these five at once.
    fn counters_of_a_fault(
        &self,
        offsets: &Offsets,
        found: &mut BTreeMap<String, Option<u32>>,
    ) -> Result<(), BtfError> {
        for (number, name) in (1..).zip(["pf_fixed", "pf_emulate", "pf_spurious", "pf_fast"]) {
            let offset = self.offset("kvm_vcpu", &format!("stat.{name}"));
            if offset != offsets.vcpu_pf_taken.checked_add(8 * number) {
                return Err(BtfError::Missing(format!(
                    "kvm_vcpu.stat.{name} right behind pf_taken"
                )));
            }
            found.insert(format!("kvm_vcpu.stat.{name}"), offset);
        }
        Ok(())
    }

    /// RIP is kept with the other registers up to Linux 6.18: one element more than the 16 general
    /// ones; and there is a set of those that are valid now.
    fn keeps_rip(&self, offsets: &Offsets) -> bool {
        offsets.vcpu_regs_avail != ABSENT
            && matches!(
                self.place("kvm_vcpu", "arch.regs"),
                Some((_, Type::Array(registers))) if registers.len() > 16
            )
    }

    fn role(&self) -> BTreeMap<String, [u8; 2]> {
        ROLE.iter()
            .filter_map(|&name| {
                let place = self.bitfield("kvm_mmu_page_role", name)?;
                Some((name.to_owned(), place))
            })
            .collect()
    }

    fn outcomes(&self) -> BTreeMap<String, i64> {
        self.enumerators()
            .iter()
            .filter(|(name, _)| name.starts_with(OUTCOME))
            .map(|(name, &value)| (name.clone(), value))
            .collect()
    }
}
