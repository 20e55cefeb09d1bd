//! What the running kernel says of itself: offsets, bit-fields, enum values, prototypes.
//!
//! Everything is looked up by name in vmlinux's BTF and in the split BTF of the kvm modules, one
//! item at a time: what this kernel lacks is absent, and only what needs it suffers. A name may be
//! there more than once (Linux 7.3's kvm carries copies of vmlinux's types).
//!
//! ```text
//! member     members of a struct, anonymous ones dissolved
//! function   prototypes of functions and tracepoints
//! resolve    all that the probes and the trace need, at once
//! error      why not, and what to do
//! fixtures   extracts of real kernels; .ci/btf makes them
//! ```

use std::{
    collections::HashMap,
    fs,
    io::ErrorKind,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use btf_rs::{Btf, Type};

mod error;
pub mod function;
mod member;
mod resolve;
#[cfg(test)]
mod tests;

pub use error::BtfError;
pub use resolve::Resolved;

use member::Place;

/// Where the kernel shows its types.
const BTF: &str = "/sys/kernel/btf";
/// Longest chain of typedefs, qualifiers and pointers followed; the kernel has six.
const CHAIN: usize = 32;

/// The types of a kernel and its kvm modules.
pub struct KernelTypes {
    /// In the order in which a name is looked up. KVM's own view of a type comes first: vmlinux
    /// may know a struct by name only, or have another function so called.
    parts: Vec<Btf>,
    /// What they are called, in the same order.
    names: Vec<&'static str>,
    /// Every enumerator, whatever its enum is called.
    enumerators: OnceLock<HashMap<String, i64>>,
}

impl std::fmt::Debug for KernelTypes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelTypes")
            .field("parts", &self.parts.len())
            .finish_non_exhaustive()
    }
}

impl KernelTypes {
    /// The files that were there.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.iter().copied()
    }

    /// Of the running kernel.
    pub fn running() -> Result<Self, BtfError> {
        Self::from_folder(Path::new(BTF))
    }

    /// From a folder with `vmlinux` and, where KVM is a module, `kvm`, `kvm_amd`, `kvm_intel`.
    pub fn from_folder(folder: &Path) -> Result<Self, BtfError> {
        let vmlinux = folder.join("vmlinux");
        let bytes = fs::read(&vmlinux).map_err(|why| BtfError::unreadable(&vmlinux, why))?;
        let vmlinux = Btf::from_bytes(&bytes).map_err(|why| BtfError::malformed(&vmlinux, why))?;
        let kvm = split(folder, "kvm", &vmlinux)?;
        let amd = split(folder, "kvm_amd", &vmlinux)?;
        let intel = split(folder, "kvm_intel", &vmlinux)?;
        let parts = [
            (kvm, "kvm"),
            (Some(vmlinux), "vmlinux"),
            (amd, "kvm_amd"),
            (intel, "kvm_intel"),
        ];
        let (parts, names) = parts
            .into_iter()
            .filter_map(|(part, name)| Some((part?, name)))
            .unzip();
        Ok(Self {
            parts,
            names,
            enumerators: OnceLock::new(),
        })
    }

    /// Bytes from the start of struct or union `of` to `path` (`a.b.c`, anonymous members left
    /// out).
    pub fn offset(&self, of: &str, path: &str) -> Option<u32> {
        match self.place(of, path)?.0 {
            Place { bits, width: None } if bits % 8 == 0 => Some(bits / 8),
            _ => None,
        }
    }

    /// Lowest bit and width of a bit-field.
    pub fn bitfield(&self, of: &str, name: &str) -> Option<[u8; 2]> {
        let place = self.place(of, name)?.0;
        Some([place.bits.try_into().ok()?, place.width?.try_into().ok()?])
    }

    /// Size of a struct or union in bytes.
    pub fn size(&self, of: &str) -> Option<u32> {
        self.types(of).find_map(|(_, found)| match found {
            Type::Struct(found) | Type::Union(found) => u32::try_from(found.size()).ok(),
            _ => None,
        })
    }

    /// Value of an enumerator.
    #[allow(dead_code, reason = "the one way to ask for a single value")]
    pub fn enumerator(&self, name: &str) -> Option<i64> {
        self.enumerators().get(name).copied()
    }

    fn enumerators(&self) -> &HashMap<String, i64> {
        self.enumerators.get_or_init(|| {
            let mut all = HashMap::new();
            for part in &self.parts {
                for (name, value) in ids(part).flat_map(|id| enumerators(part, id)) {
                    all.entry(name).or_insert(value);
                }
            }
            all
        })
    }

    /// Every type so called, with what resolves the types that it refers to.
    fn types(&self, name: &str) -> impl Iterator<Item = (&Btf, Type)> {
        self.parts.iter().flat_map(move |part| {
            let own = part.split().unwrap_or_else(|| part.base());
            // It fails only for ids that do not exist, and these come from the same table.
            let types = own.resolve_types_by_name(name).unwrap_or_default();
            types.into_iter().map(move |found| (part, found))
        })
    }
}

/// A module's BTF, if there is such a module.
fn split(folder: &Path, module: &str, vmlinux: &Btf) -> Result<Option<Btf>, BtfError> {
    let path: PathBuf = folder.join(module);
    match fs::read(&path) {
        Ok(bytes) => Btf::from_split_bytes(&bytes, vmlinux)
            .map(Some)
            .map_err(|why| BtfError::malformed(&path, why)),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(BtfError::unreadable(&path, why)),
    }
}

/// Ids of a part's own types.
fn ids(part: &Btf) -> RangeInclusive<u32> {
    let (first, last) = part.split().unwrap_or_else(|| part.base()).type_id_range();
    first..=last
}

/// What an enum enumerates; nothing, if it is none.
fn enumerators(part: &Btf, id: u32) -> Vec<(String, i64)> {
    match part.resolve_type_by_id(id) {
        Ok(Type::Enum(found)) => {
            let signed = found.is_signed();
            let members = found.members.iter().filter_map(|member| {
                let value = member.val();
                let value = if signed {
                    i64::from(value.cast_signed())
                } else {
                    i64::from(value)
                };
                Some((part.resolve_name(member).ok()?, value))
            });
            members.collect()
        }
        Ok(Type::Enum64(found)) => {
            let signed = found.is_signed();
            let members = found.members.iter().filter_map(|member| {
                let value = if signed {
                    member.val().cast_signed()
                } else {
                    i64::try_from(member.val()).ok()?
                };
                Some((part.resolve_name(member).ok()?, value))
            });
            members.collect()
        }
        _ => Vec::new(),
    }
}

/// The type behind typedefs and qualifiers.
fn unqualified(part: &Btf, id: u32) -> Option<Type> {
    let mut found = part.resolve_type_by_id(id).ok()?;
    for _ in 0..CHAIN {
        match &found {
            Type::Typedef(_)
            | Type::Const(_)
            | Type::Volatile(_)
            | Type::Restrict(_)
            | Type::TypeTag(_) => {
                found = part.resolve_chained_type(found.as_btf_type()?).ok()?;
            }
            _ => return Some(found),
        }
    }
    None
}
