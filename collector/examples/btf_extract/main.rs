//! Cuts the BTF of a whole kernel down to what the tests of `probes::btf` look up: 6 MB become
//! some tens of KB, of the same shape (vmlinux, and the split BTF of the modules upon it).
//!
//! ```text
//! btf_extract WANTED RAW EXTRACT
//! ```
//!
//! RAW is a folder with `vmlinux` and, where KVM is a module, `kvm`, `kvm_amd` and `kvm_intel`, as
//! in /sys/kernel/btf; `.ci/btf` makes it from a kernel package and calls this. WANTED has a line
//! for each thing to keep, in all its copies:
//!
//! ```text
//! struct NAME            a struct or union with its members
//! struct NAME MEMBER...  with these members only
//! function NAME          with its prototype
//! tracepoint NAME        the typedef of its probes' prototype
//! ```
//!
//! Types that these refer to are kept as far as the format needs them: a struct that is only
//! pointed to becomes a forward declaration; a named struct embedded in another keeps its size,
//! but not its members. Offsets, sizes and names are never changed.

use std::{env, fs, path::Path};

use anyhow::{Context, Result, bail};
use kernel::Kernel;
use wanted::Wanted;

mod entry;
mod keep;
mod kernel;
mod wanted;
mod write;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [wanted, raw, extract] = arguments.as_slice() else {
        bail!("usage: btf_extract WANTED RAW EXTRACT");
    };
    let text = fs::read_to_string(wanted).with_context(|| format!("while reading {wanted}"))?;
    let wanted = Wanted::parse(&text)?;
    let mut kernel = Kernel::read(Path::new(raw))?;
    wanted.trim(&mut kernel)?;
    let kept = keep::closure(&kernel, &wanted)?;
    fs::create_dir_all(extract).with_context(|| format!("while creating {extract}"))?;
    for (name, bytes) in write::sections(&kernel, &kept)? {
        let path = Path::new(extract).join(name);
        fs::write(&path, &bytes).with_context(|| format!("while writing {}", path.display()))?;
        println!("{}: {} bytes", path.display(), bytes.len());
    }
    Ok(())
}
