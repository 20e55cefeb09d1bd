//! Offsets and bit-fields from the running kernel's BTF.
//!
//! Types are looked up by name in vmlinux and in the split BTF of the kvm module; a type may be
//! there more than once (Linux 7.3), and a field may be nested in anonymous unions. A field that
//! this kernel lacks is absent, and only what needs it suffers.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use btf_rs::{Btf, BtfType, Type};
use events::{ABSENT, Config, FIELDS, Offsets};

/// Where the kernel shows its types.
const BTF: &str = "/sys/kernel/btf";
/// Deepest nesting of anonymous members followed; the kernel has two.
const DEPTH: u32 = 8;

/// Why the kernel's types could not be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The kernel has no BTF.
    #[error("{} cannot be read: {why}; the kernel must be built with CONFIG_DEBUG_INFO_BTF", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// A field without which nothing can be recorded.
    #[error("the kernel's BTF has no field {0}")]
    Missing(String),
}

/// The types of the running kernel and its kvm module.
pub struct KernelTypes {
    vmlinux: Btf,
    kvm: Option<Btf>,
}

impl std::fmt::Debug for KernelTypes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelTypes")
            .field("kvm_is_module", &self.kvm.is_some())
            .finish_non_exhaustive()
    }
}

/// A field's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// Bits from the start of the outermost struct.
    bits: u32,
    /// Width, for a bit-field.
    width: Option<u32>,
}

/// What the probes need to know, and what to write into the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// For the probes; what is no field is still 0.
    pub config: Config,
    /// Every field looked up, with its byte offset.
    pub offsets: BTreeMap<String, Option<u32>>,
    /// Bit-fields of `kvm_mmu_page_role`: lowest bit, width.
    pub role: BTreeMap<String, [u8; 2]>,
}

impl KernelTypes {
    /// Of the running kernel.
    pub fn running() -> Result<Self, BtfError> {
        Self::from_folder(Path::new(BTF))
    }

    /// From a folder with `vmlinux` and, where KVM is a module, `kvm`.
    pub fn from_folder(folder: &Path) -> Result<Self, BtfError> {
        let path = folder.join("vmlinux");
        let unreadable = |path: &Path, why: String| BtfError::Unreadable {
            path: path.to_owned(),
            why,
        };
        let bytes = fs::read(&path).map_err(|error| unreadable(&path, error.to_string()))?;
        let vmlinux =
            Btf::from_bytes(&bytes).map_err(|error| unreadable(&path, error.to_string()))?;
        let path = folder.join("kvm");
        let kvm = match fs::read(&path) {
            Ok(bytes) => Some(
                Btf::from_split_bytes(&bytes, &vmlinux)
                    .map_err(|error| unreadable(&path, error.to_string()))?,
            ),
            Err(_) => None,
        };
        Ok(Self { vmlinux, kvm })
    }

    /// Whether a raw tracepoint of this name exists (`btf_trace_NAME`).
    pub fn has_tracepoint(&self, name: &str) -> bool {
        self.types(&format!("btf_trace_{name}")).next().is_some()
    }

    /// Finds every field that the probes read.
    pub fn resolve(&self) -> Result<Resolved, BtfError> {
        let mut fields = Fields {
            types: self,
            offsets: BTreeMap::new(),
        };
        let role = self.role_fields();
        let [shift, width] = *role
            .get("level")
            .ok_or_else(|| BtfError::Missing("kvm_mmu_page_role.level".to_owned()))?;
        let mut numbers = [ABSENT; FIELDS.len()];
        for (number, field) in numbers.iter_mut().zip(FIELDS) {
            *number = match fields.find(field.of, field.path) {
                Some(offset) => offset,
                None if field.needed => {
                    return Err(BtfError::Missing(format!("{}.{}", field.of, field.path)));
                }
                None => ABSENT,
            };
        }
        let offsets: Offsets = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&numbers));
        // The probes read these at once.
        for (number, name) in (1..).zip(["pf_fixed", "pf_emulate", "pf_spurious", "pf_fast"]) {
            if fields.find("kvm_vcpu", &format!("stat.{name}"))
                != Some(offsets.vcpu_pf_taken + 8 * number)
            {
                return Err(BtfError::Missing(format!(
                    "kvm_vcpu.stat.{name} right behind pf_taken"
                )));
            }
        }
        let config = Config {
            offsets,
            keeps_rip: u32::from(self.keeps_rip(&offsets)),
            role_level_shift: u32::from(shift),
            role_level_width: u32::from(width),
            ..Config::EMPTY
        };
        Ok(Resolved {
            config,
            offsets: fields.offsets,
            role,
        })
    }

    /// KVM's counters of `of` (`kvm` or `kvm_vcpu`): name and byte offset in it, named as
    /// `KVM_GET_STATS_FD` names them.
    pub fn counters(&self, of: &str) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        for (btf, start) in self.types(of) {
            if let Some((place, stat)) = member(btf, &start, "stat", DEPTH) {
                flatten(btf, &stat, place.bits, &mut found);
                break;
            }
        }
        found
    }

    /// RIP is kept with the other registers up to Linux 6.18: one element more than the 16 general
    /// ones; and there is a set of those that are valid now.
    fn keeps_rip(&self, offsets: &Offsets) -> bool {
        offsets.vcpu_regs_avail != ABSENT
            && self
                .array_length("kvm_vcpu", "arch.regs")
                .is_some_and(|registers| registers > 16)
    }

    fn role_fields(&self) -> BTreeMap<String, [u8; 2]> {
        ["level", "direct", "access", "invalid"]
            .into_iter()
            .filter_map(|name| {
                let place = self.place("kvm_mmu_page_role", name)?.0;
                let bit = u8::try_from(place.bits).ok()?;
                let width = u8::try_from(place.width?).ok()?;
                Some((name.to_owned(), [bit, width]))
            })
            .collect()
    }

    fn types<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Btf, Type)> {
        self.kvm.iter().chain([&self.vmlinux]).flat_map(move |btf| {
            let types = btf.resolve_types_by_name(name).unwrap_or_default();
            types.into_iter().map(move |found| (btf, found))
        })
    }

    /// The place of `path` (`a.b.c`) in struct or union `name`, and the type found there.
    fn place(&self, name: &str, path: &str) -> Option<(Place, Type)> {
        self.types(name).find_map(|(btf, start)| {
            let mut at = Place {
                bits: 0,
                width: None,
            };
            let mut here = start;
            for step in path.split('.') {
                let (found, next) = member(btf, &here, step, DEPTH)?;
                at = Place {
                    bits: at.bits + found.bits,
                    width: found.width,
                };
                here = next;
            }
            Some((at, here))
        })
    }

    fn array_length(&self, name: &str, path: &str) -> Option<u32> {
        match self.place(name, path)?.1 {
            Type::Array(array) => u32::try_from(array.len()).ok(),
            _ => None,
        }
    }
}

/// A member by name, also of anonymous structs and unions within.
fn member(btf: &Btf, within: &Type, name: &str, depth: u32) -> Option<(Place, Type)> {
    let (Type::Struct(within) | Type::Union(within)) = within else {
        return None;
    };
    for field in &within.members {
        let found = btf.resolve_name(field).unwrap_or_default();
        let width = field.bitfield_size().filter(|&width| width > 0);
        let place = Place {
            bits: field.bit_offset(),
            width,
        };
        if found == name {
            return Some((place, unqualified(btf, field)?));
        }
        if found.is_empty()
            && depth > 0
            && let Some((inner, next)) = member(btf, &unqualified(btf, field)?, name, depth - 1)
        {
            return Some((
                Place {
                    bits: place.bits + inner.bits,
                    width: inner.width,
                },
                next,
            ));
        }
    }
    None
}

/// The 64-bit numbers of a struct; those of `generic` count as its own, an array's have an index.
fn flatten(btf: &Btf, within: &Type, base: u32, found: &mut Vec<(String, u32)>) {
    let Type::Struct(within) = within else { return };
    for field in &within.members {
        let name = btf.resolve_name(field).unwrap_or_default();
        let at = base + field.bit_offset();
        match unqualified(btf, field) {
            // `atomic64_t` is a struct too.
            Some(inner @ Type::Struct(_)) if name == "generic" => {
                flatten(btf, &inner, at, found);
            }
            Some(Type::Array(array)) => {
                let elements = (0..array.len() as u32)
                    .map(|index| (format!("{name}[{index}]"), (at + 64 * index) / 8));
                found.extend(elements);
            }
            // Counters that are the machine's layout of a union have names of their own there.
            Some(Type::Union(union)) if name.is_empty() => {
                if let Some(inner) = union
                    .members
                    .iter()
                    .find_map(|member| unqualified(btf, member))
                {
                    flatten(btf, &inner, at, found);
                }
            }
            Some(_) => found.push((name, at / 8)),
            None => {}
        }
    }
}

/// The type behind typedefs and qualifiers.
fn unqualified(btf: &Btf, of: &dyn BtfType) -> Option<Type> {
    let mut found = btf.resolve_chained_type(of).ok()?;
    for _ in 0..DEPTH {
        match &found {
            Type::Typedef(_) | Type::Const(_) | Type::Volatile(_) | Type::TypeTag(_) => {
                found = btf.resolve_chained_type(found.as_btf_type()?).ok()?;
            }
            _ => break,
        }
    }
    Some(found)
}

/// Looks fields up and remembers what it found.
struct Fields<'a> {
    types: &'a KernelTypes,
    offsets: BTreeMap<String, Option<u32>>,
}

impl Fields<'_> {
    fn find(&mut self, name: &str, path: &str) -> Option<u32> {
        let offset = self
            .types
            .place(name, path)
            .filter(|(place, _)| place.bits % 8 == 0)
            .map(|(place, _)| place.bits / 8);
        self.offsets.insert(format!("{name}.{path}"), offset);
        offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KVM-built-in kernels describe everything in vmlinux; each number here was read off with bpftool.
    #[test]
    #[ignore = "needs a kernel with BTF that includes KVM's types"]
    fn kvm_the_running_kernel_has_every_field() {
        let types = KernelTypes::running().expect("BTF");
        let resolved = types.resolve().expect("all fields");
        assert_eq!(resolved.offsets["kvm_vcpu.arch.mmu"], Some(672));
        assert!(resolved.role["level"] == [0, 4]);
        assert!(types.has_tracepoint("kvm_mmu_set_spte"));
        assert!(!types.has_tracepoint("kvm_mmu_set_spte_"));
    }
}
