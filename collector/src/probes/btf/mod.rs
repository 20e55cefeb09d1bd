//! What the running kernel says of itself: offsets, bit-fields, prototypes.
//!
//! Everything is looked up by name in vmlinux's BTF and in the split BTF of the kvm modules, one
//! item at a time: an item that this kernel lacks is absent, and affects only what needs it. A
//! name may be there more than once (Linux 7.3's kvm carries copies of vmlinux's types).
//!
//! ```text
//! format     the bytes
//! member     members of a struct, including those of anonymous ones
//! function   prototypes of functions and tracepoints
//! resolve    all that the probes and the trace need, at once
//! error      why not, and what to do
//! fixtures   extracts of real kernels; .ci/btf makes them
//! ```

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

mod error;
mod format;
pub mod function;
mod member;
mod resolve;
#[cfg(test)]
mod tests;

pub use error::BtfError;
pub use resolve::Resolved;

use format::{Btf, Kind, Type};
use member::Place;

/// Where the kernel shows its types.
const BTF: &str = "/sys/kernel/btf";

/// The types of a kernel and its kvm modules.
pub struct KernelTypes {
    /// In the order in which a name is looked up. KVM's own view of a type comes first: vmlinux
    /// may know a struct by name only, or have another function with the name.
    parts: Vec<Btf>,
    /// Their names, in the same order.
    names: Vec<&'static str>,
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
        let vmlinux = Btf::parse(&bytes).map_err(|why| BtfError::malformed(&vmlinux, why))?;
        let kvm = split(folder, "kvm", &vmlinux)?;
        let amd = split(folder, "kvm_amd", &vmlinux)?;
        let intel = split(folder, "kvm_intel", &vmlinux)?;
        Ok(Self::of([
            (kvm, "kvm"),
            (Some(vmlinux), "vmlinux"),
            (amd, "kvm_amd"),
            (intel, "kvm_intel"),
        ]))
    }

    /// From the bytes of `vmlinux` and `kvm`; `None` if they are no BTF.
    pub fn from_bytes(vmlinux: &[u8], kvm: Option<&[u8]>) -> Option<Self> {
        let vmlinux = Btf::parse(vmlinux).ok()?;
        let kvm = match kvm {
            Some(kvm) => Some(Btf::parse_split(kvm, &vmlinux).ok()?),
            None => None,
        };
        Some(Self::of([(kvm, "kvm"), (Some(vmlinux), "vmlinux")]))
    }

    fn of<const N: usize>(parts: [(Option<Btf>, &'static str); N]) -> Self {
        let (parts, names) = parts
            .into_iter()
            .filter_map(|(part, name)| Some((part?, name)))
            .unzip();
        Self { parts, names }
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
        self.types(of)
            .filter(|found| matches!(found.kind(), Kind::Struct | Kind::Union))
            .find_map(Type::size)
    }

    /// Every type with this name.
    fn types(&self, name: &str) -> impl Iterator<Item = Type<'_>> {
        self.parts.iter().flat_map(move |part| part.named(name))
    }
}

/// A module's BTF, if there is such a module.
fn split(folder: &Path, module: &str, vmlinux: &Btf) -> Result<Option<Btf>, BtfError> {
    let path: PathBuf = folder.join(module);
    match fs::read(&path) {
        Ok(bytes) => Btf::parse_split(&bytes, vmlinux)
            .map(Some)
            .map_err(|why| BtfError::malformed(&path, why)),
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(None),
        Err(why) => Err(BtfError::unreadable(&path, why)),
    }
}
