//! Kernel modules: their files, in load order. Dependencies come from each module's `.modinfo`,
//! since an unpacked package has no `modules.dep`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use object::{Object as _, ObjectSection as _};

/// Why the modules of a kernel cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// A file or a directory could not be read.
    #[error("while reading {path}")]
    Io {
        /// Its path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// There is no such module, and it is not built in.
    #[error("{tree} has no module {name} and does not list it as built in")]
    Missing {
        /// The directory of the kernel's modules.
        tree: PathBuf,
        /// The module's name.
        name: String,
    },
    /// An unknown compression.
    #[error("{path} is neither ELF nor compressed with xz or zstd")]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// Not a module.
    #[error("{path} has no readable .modinfo")]
    NoInfo {
        /// The file.
        path: PathBuf,
    },
}

/// A decompressed module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loadable {
    /// Its name, with underscores.
    pub name: String,
    /// The ELF file.
    pub elf: Vec<u8>,
}

/// The modules of one kernel.
#[derive(Debug)]
pub struct Tree {
    directory: PathBuf,
    files: BTreeMap<String, PathBuf>,
    built_in: Vec<String>,
}

impl Tree {
    /// Indexes the directory that holds `kernel/`.
    pub fn open(directory: &Path) -> Result<Self, ModuleError> {
        let mut files = BTreeMap::new();
        index(&directory.join("kernel"), &mut files)?;
        let list = directory.join("modules.builtin");
        let built_in = match fs::read_to_string(&list) {
            Ok(text) => text.lines().filter_map(name_of).collect(),
            // Without the list no module is known to be built in.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(ModuleError::Io { path: list, source }),
        };
        Ok(Self {
            directory: directory.to_owned(),
            files,
            built_in,
        })
    }

    /// The modules and all their dependencies, in load order.
    pub fn closure(&self, names: &[&str]) -> Result<Vec<Loadable>, ModuleError> {
        let mut loaded = Vec::new();
        for name in names {
            self.add(name, &mut loaded)?;
        }
        Ok(loaded)
    }

    fn add(&self, name: &str, loaded: &mut Vec<Loadable>) -> Result<(), ModuleError> {
        if loaded.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let Some(path) = self.files.get(name) else {
            if self.built_in.iter().any(|built_in| built_in == name) {
                return Ok(());
            }
            return Err(ModuleError::Missing {
                tree: self.directory.clone(),
                name: name.to_owned(),
            });
        };
        let elf = decompressed(path)?;
        let depends = depends(&elf).ok_or_else(|| ModuleError::NoInfo { path: path.clone() })?;
        // The kernel's build refuses circular dependencies.
        for name in &depends {
            self.add(name, loaded)?;
        }
        loaded.push(Loadable {
            name: name.to_owned(),
            elf,
        });
        Ok(())
    }
}

fn index(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), ModuleError> {
    let failed = |source| ModuleError::Io {
        path: directory.to_owned(),
        source,
    };
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        if entry.file_type().map_err(failed)?.is_dir() {
            index(&path, files)?;
        } else if let Some(name) = path.to_str().and_then(name_of) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `kernel/arch/x86/kvm/kvm-amd.ko.xz` is `kvm_amd`.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, _) = file.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

fn decompressed(path: &Path) -> Result<Vec<u8>, ModuleError> {
    let failed = |source| ModuleError::Io {
        path: path.to_owned(),
        source,
    };
    let bytes = fs::read(path).map_err(failed)?;
    let mut elf = Vec::new();
    match bytes.as_slice() {
        [0x7f, b'E', b'L', b'F', ..] => return Ok(bytes),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => liblzma::read::XzDecoder::new(bytes.as_slice())
            .read_to_end(&mut elf)
            .map_err(failed)?,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::Decoder::new(bytes.as_slice())
            .and_then(|mut reader| reader.read_to_end(&mut elf))
            .map_err(failed)?,
        _ => {
            return Err(ModuleError::Format {
                path: path.to_owned(),
            });
        }
    };
    Ok(elf)
}

/// The names after `depends=` in `.modinfo`.
fn depends(elf: &[u8]) -> Option<Vec<String>> {
    let file = object::File::parse(elf).ok()?;
    let info = file.section_by_name(".modinfo")?.data().ok()?;
    let list = info
        .split(|byte| *byte == 0)
        .find_map(|item| item.strip_prefix(b"depends="))?;
    let list = std::str::from_utf8(list).ok()?;
    Some(
        list.split(',')
            .filter(|name| !name.is_empty())
            .map(|name| name.replace('-', "_"))
            .collect(),
    )
}
