//! A stock kernel to boot: an installed one, or one of an unpacked package.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// Directories of modules in a distribution, below the root.
const MODULE_DIRECTORIES: [&str; 2] = ["usr/lib/modules", "lib/modules"];
/// Offset and value of the boot protocol's magic (`Documentation/arch/x86/boot.rst`).
const MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
/// Offset of the header field that points to the release, less 0x200.
const RELEASE: usize = 0x20e;
/// The header and everything that its 16-bit pointer can reach.
const HEADER_BYTES: u64 = 0x1_0400;

/// Why no kernel can be booted.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// There is no image.
    #[error("no kernel image in {root} (tried boot/vmlinuz* and lib/modules/*/vmlinuz)")]
    NoImage {
        /// Where it was searched.
        root: PathBuf,
    },
    /// There are images, but none can be used.
    #[error("no kernel in {root} can be used: {}", list(why))]
    NoneFits {
        /// Where they are.
        root: PathBuf,
        /// Why not, for each.
        why: Vec<Unfit>,
    },
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// This user may not read it.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The image.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Not a kernel.
    #[error("{path} is not a bzImage with a release in its header")]
    NotAnImage {
        /// The file.
        path: PathBuf,
    },
    /// Its modules were not found.
    #[error("{path} is Linux {release}, whose modules are not in {root}")]
    NoModules {
        /// The image.
        path: PathBuf,
        /// The release in its header.
        release: String,
        /// Where the modules were searched.
        root: PathBuf,
    },
}

impl KernelError {
    /// The images that this user may not read.
    pub fn unreadable(&self) -> Vec<&Path> {
        let KernelError::NoneFits { why, .. } = self else {
            return Vec::new();
        };
        why.iter()
            .filter_map(|unfit| match unfit {
                Unfit::Unreadable { path, source }
                    if source.kind() == io::ErrorKind::PermissionDenied =>
                {
                    Some(path.as_path())
                }
                _ => None,
            })
            .collect()
    }
}

fn list(why: &[Unfit]) -> String {
    why.iter()
        .map(Unfit::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// An image with its modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The release, as `uname -r` prints it.
    pub release: String,
    /// The bzImage.
    pub image: PathBuf,
    /// The directory that holds `kernel/` and `modules.builtin`.
    pub modules: PathBuf,
}

impl Kernel {
    /// The newest kernel below `root` whose image can be read and whose modules exist.
    /// `root` may also be an image. `modules` is another root for the modules, or their directory.
    pub fn find(root: &Path, modules: Option<&Path>) -> Result<Self, KernelError> {
        let images = images(root);
        if images.is_empty() {
            return Err(KernelError::NoImage {
                root: root.to_owned(),
            });
        }
        let mut fit = Vec::new();
        let mut why = Vec::new();
        for image in images {
            match Self::of_image(image, modules.unwrap_or(root)) {
                Ok(kernel) => fit.push(kernel),
                Err(unfit) => why.push(unfit),
            }
        }
        fit.into_iter()
            .max_by_key(|kernel| numbers(&kernel.release))
            .ok_or(KernelError::NoneFits {
                root: root.to_owned(),
                why,
            })
    }

    fn of_image(image: PathBuf, root: &Path) -> Result<Self, Unfit> {
        let header = match header(&image) {
            Ok(header) => header,
            Err(source) => {
                return Err(Unfit::Unreadable {
                    path: image,
                    source,
                });
            }
        };
        let Some(release) = release(&header) else {
            return Err(Unfit::NotAnImage { path: image });
        };
        let directories = MODULE_DIRECTORIES.map(|directory| root.join(directory).join(&release));
        let found = directories
            .into_iter()
            .chain([root.to_owned()])
            .find(|directory| directory.join("kernel").is_dir());
        match found {
            Some(modules) => Ok(Self {
                release,
                image,
                modules,
            }),
            None => Err(Unfit::NoModules {
                path: image,
                release,
                root: root.to_owned(),
            }),
        }
    }
}

/// Every image below `root`, or `root` itself.
fn images(root: &Path) -> Vec<PathBuf> {
    if root.is_file() {
        return vec![root.to_owned()];
    }
    let in_boot = entries(&root.join("boot")).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("vmlinuz"))
    });
    let with_modules = MODULE_DIRECTORIES
        .iter()
        .flat_map(|directory| entries(&root.join(directory)))
        .map(|release| release.join("vmlinuz"));
    // Links such as /vmlinuz -> boot/vmlinuz-6.1 and /lib -> usr/lib lead to the same image.
    let mut images: Vec<PathBuf> = in_boot
        .chain(with_modules)
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    images.sort();
    images.dedup();
    images
}

/// The entries of a directory; none if it does not exist.
fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
}

fn header(image: &Path) -> io::Result<Vec<u8>> {
    let mut header = Vec::new();
    File::open(image)?
        .take(HEADER_BYTES)
        .read_to_end(&mut header)?;
    Ok(header)
}

/// The release in a bzImage's header.
fn release(header: &[u8]) -> Option<String> {
    let (at, magic) = MAGIC;
    if header.get(at..at + magic.len())? != magic {
        return None;
    }
    let pointer = header.get(RELEASE..RELEASE + 2)?;
    let at = 0x200 + usize::from(u16::from_le_bytes([pointer[0], pointer[1]]));
    let text = header.get(at..)?.split(|byte| *byte == 0).next()?;
    let release = std::str::from_utf8(text).ok()?.split(' ').next()?;
    (!release.is_empty()).then(|| release.to_owned())
}

/// The numbers in a release, so that 6.12 comes after 6.2.
fn numbers(release: &str) -> Vec<u64> {
    release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of a bzImage that is read here.
    fn image(release: &str) -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        bytes[0x202..0x206].copy_from_slice(b"HdrS");
        bytes[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
        bytes[0x300..0x300 + release.len()].copy_from_slice(release.as_bytes());
        bytes
    }

    /// A root with images, of which some have modules.
    fn root(kernels: &[(&str, bool)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join("boot")).expect("a directory");
        for (release, modules) in kernels {
            let name = format!("boot/vmlinuz-{release}");
            let text = format!("{release} (someone) #1 SMP");
            fs::write(root.path().join(name), image(&text)).expect("an image");
            if *modules {
                let directory = root.path().join("lib/modules").join(release);
                fs::create_dir_all(directory.join("kernel")).expect("a directory");
            }
        }
        root
    }

    #[test]
    fn the_newest_kernel_with_modules_is_used() {
        let root = root(&[("6.2.0-1", true), ("6.12.1", true), ("7.0", false)]);
        let kernel = Kernel::find(root.path(), None).expect("one that fits");
        assert_eq!(kernel.release, "6.12.1");
        assert!(kernel.image.ends_with("boot/vmlinuz-6.12.1"));
        assert!(kernel.modules.ends_with("lib/modules/6.12.1"));
    }

    #[test]
    fn modules_can_be_in_another_directory() {
        let (root, other) = (root(&[("6.1", false)]), tempfile::tempdir().expect("one"));
        let directory = other.path().join("usr/lib/modules/6.1");
        fs::create_dir_all(directory.join("kernel")).expect("a directory");
        for modules in [other.path(), directory.as_path()] {
            let kernel = Kernel::find(root.path(), Some(modules)).expect("one that fits");
            assert_eq!(kernel.modules, directory);
        }
        let image = root.path().join("boot/vmlinuz-6.1");
        let kernel = Kernel::find(&image, Some(other.path())).expect("an image is enough");
        assert_eq!(kernel.image, image);
    }

    #[test]
    fn errors_name_what_is_missing() {
        let empty = tempfile::tempdir().expect("a directory");
        let error = Kernel::find(empty.path(), None).expect_err("no image");
        assert!(error.to_string().contains("boot/vmlinuz"), "{error}");

        let root = root(&[("6.1", false)]);
        fs::write(root.path().join("boot/vmlinuz-x"), "no kernel").expect("a file");
        let error = Kernel::find(root.path(), None).expect_err("no modules");
        let text = error.to_string();
        assert!(text.contains("Linux 6.1, whose modules"), "{text}");
        assert!(text.contains("vmlinuz-x is not a bzImage"), "{text}");
    }

    #[test]
    fn any_bytes_give_a_release_or_none() {
        let whole = image("6.1 x");
        assert_eq!(release(&whole), Some("6.1".to_owned()));
        for cut in [0, 0x203, 0x20f, 0x210, 0x2ff] {
            assert_eq!(release(&whole[..cut]), None, "{cut:#x}");
        }
    }
}
