//! All that the probes and the trace need of the kernel's types.

use std::{collections::BTreeMap, slice};

use bytemuck::Zeroable as _;
use events::{Config, FIELDS, Offset, Offsets, constants::VCPU_REGS_RIP};

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

/// What the probes need to know, and what to write into the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// For the probes. What the types do not say (`page_offset`, `walk_bits`, counters) is still
    /// 0.
    pub config: Config,
    /// Every field looked up, with its byte offset.
    pub offsets: BTreeMap<String, Option<u32>>,
    /// Bit-fields of `kvm_mmu_page_role`: lowest bit, width.
    pub role: BTreeMap<String, [u8; 2]>,
}

impl KernelTypes {
    /// Finds every field that the probes read.
    pub fn resolve(&self) -> Result<Resolved, BtfError> {
        if self.size(SHADOW_PAGE).is_none() {
            return Err(BtfError::NoKvm(SHADOW_PAGE));
        }
        let role = self.role();
        let place = |name: &str| {
            let missing = || BtfError::Missing(format!("kvm_mmu_page_role.{name}"));
            role.get(name).copied().ok_or_else(missing)
        };
        let [shift, width] = place("level")?;
        let [direct, _] = place("direct")?;
        let [invalid, _] = place("invalid")?;
        let mut found = BTreeMap::new();
        let mut offsets = Offsets::zeroed();
        let numbers: &mut [Offset] = bytemuck::cast_slice_mut(slice::from_mut(&mut offsets));
        for (number, field) in numbers.iter_mut().zip(FIELDS) {
            let name = format!("{}.{}", field.of, field.path);
            *number = Offset::new(self.offset(field.of, field.path));
            let offset = number.bytes();
            if field.needed && offset.is_none() {
                return Err(BtfError::Missing(name));
            }
            found.insert(name, offset);
        }
        self.counters_of_a_fault(&offsets, &mut found)?;
        let config = Config {
            offsets,
            keeps_rip: u32::from(self.keeps_rip(&offsets)),
            role_level_shift: u32::from(shift),
            role_level_width: u32::from(width),
            role_direct_shift: u32::from(direct),
            role_invalid_shift: u32::from(invalid),
            desc_entries: self.elements("pte_list_desc", "sptes").unwrap_or(0),
            ..Config::EMPTY
        };
        Ok(Resolved {
            config,
            offsets: found,
            role,
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
            if offset != offsets.vcpu_pf_taken.plus(8 * number).bytes() {
                return Err(BtfError::Missing(format!(
                    "kvm_vcpu.stat.{name} right after pf_taken"
                )));
            }
            found.insert(format!("kvm_vcpu.stat.{name}"), offset);
        }
        Ok(())
    }

    /// RIP is kept after the 16 general registers up to Linux 6.18, and a set names those that are
    /// valid now.
    fn keeps_rip(&self, offsets: &Offsets) -> bool {
        let registers = self.elements("kvm_vcpu", "arch.regs");
        offsets.vcpu_regs_avail.is_there() && registers.is_some_and(|count| count > VCPU_REGS_RIP)
    }

    fn role(&self) -> BTreeMap<String, [u8; 2]> {
        ROLE.iter()
            .filter_map(|&name| {
                let place = self.bitfield("kvm_mmu_page_role", name)?;
                Some((name.to_owned(), place))
            })
            .collect()
    }
}
