//! The lab's initramfs: this program as `init`, the modules, the job. It is not compressed: the
//! emulated CPU would need longer to decompress it than to read it.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use cpio::newc::{Builder, ModeFileType, trailer};

/// Why the initramfs could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file could not be read.
    #[error("while packing {path}")]
    File {
        /// The file on this host.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The archive could not be written.
    #[error("while writing the lab's initramfs")]
    Archive(#[source] io::Error),
}

/// An archive that is being written.
#[derive(Debug)]
pub struct Initramfs<W> {
    out: W,
    directories: BTreeSet<String>,
    entries: u32,
}

impl<W: Write> Initramfs<W> {
    /// Begins with what the kernel needs: a console for `init`.
    pub fn new(out: W) -> Result<Self, PackError> {
        let mut archive = Self {
            out,
            directories: BTreeSet::new(),
            entries: 0,
        };
        archive.parents_of("/dev/console")?;
        let console = archive
            .entry("/dev/console", ModeFileType::Char, 0o600)
            .rdev_major(5)
            .rdev_minor(1);
        archive.write(console, io::empty(), 0)?;
        Ok(archive)
    }

    /// Adds an empty directory.
    pub fn directory(&mut self, name: &str) -> Result<(), PackError> {
        self.parents_of(&format!("{name}/."))
    }

    /// Adds a file with these bytes.
    pub fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<(), PackError> {
        self.add(name, bytes, 0o644)
    }

    fn add(&mut self, name: &str, bytes: &[u8], mode: u32) -> Result<(), PackError> {
        let size = u32::try_from(bytes.len()).map_err(|_| too_large())?;
        self.parents_of(name)?;
        let entry = self.entry(name, ModeFileType::Regular, mode);
        self.write(entry, bytes, size)
    }

    /// Adds a program with these bytes.
    pub fn program(&mut self, name: &str, bytes: &[u8]) -> Result<(), PackError> {
        self.add(name, bytes, 0o755)
    }

    /// Adds a file of this host, readable and executable for everybody.
    pub fn file(&mut self, name: &str, path: &Path) -> Result<(), PackError> {
        let failed = |source| PackError::File {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let size = u32::try_from(size)
            .map_err(|_| failed(io::Error::other("larger than 4 GiB, the archive's limit")))?;
        self.parents_of(name)?;
        let entry = self.entry(name, ModeFileType::Regular, 0o755);
        self.write(entry, file, size)
    }

    /// Ends the archive.
    pub fn finish(self) -> Result<(), PackError> {
        let mut out = trailer(self.out).map_err(PackError::Archive)?;
        out.flush().map_err(PackError::Archive)
    }

    /// Adds the directories above a file, each once.
    fn parents_of(&mut self, name: &str) -> Result<(), PackError> {
        for (at, _) in name.match_indices('/').skip(1) {
            let directory = &name[..at];
            if self.directories.insert(directory.to_owned()) {
                let entry = self.entry(directory, ModeFileType::Directory, 0o755);
                self.write(entry, io::empty(), 0)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &str, kind: ModeFileType, mode: u32) -> Builder {
        // Entries with the same inode number would be links to one file.
        self.entries += 1;
        Builder::new(name.trim_start_matches('/'))
            .ino(self.entries)
            .mode(mode)
            .set_mode_file_type(kind)
            .nlink(1)
    }

    fn write(&mut self, entry: Builder, mut from: impl Read, size: u32) -> Result<(), PackError> {
        let mut to = entry.write(&mut self.out, size);
        let copied = io::copy(&mut from, &mut to).map_err(PackError::Archive)?;
        if copied != u64::from(size) {
            return Err(PackError::Archive(io::Error::other(
                "a file changed while it was packed",
            )));
        }
        to.finish().map_err(PackError::Archive)?;
        Ok(())
    }
}

fn too_large() -> PackError {
    PackError::Archive(io::Error::other("a file is larger than 4 GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_comes_once_and_before_its_files() {
        let mut bytes = Vec::new();
        let mut archive = Initramfs::new(&mut bytes).expect("created");
        archive.directory("/out").expect("written");
        archive.bytes("/a/b/c", b"12345").expect("written");
        archive.bytes("/a/b/d", b"").expect("written");
        archive.finish().expect("finished");

        let mut rest = bytes.as_slice();
        let mut names = Vec::new();
        loop {
            let entry = cpio::newc::Reader::new(rest).expect("an entry");
            if entry.entry().is_trailer() {
                break;
            }
            let (name, size) = (entry.entry().name().to_owned(), entry.entry().file_size());
            names.push(format!("{name} {size} {:o}", entry.entry().mode()));
            rest = entry.finish().expect("the next entry");
        }
        assert_eq!(
            names,
            [
                "dev 0 40755",
                "dev/console 0 20600",
                "out 0 40755",
                "a 0 40755",
                "a/b 0 40755",
                "a/b/c 5 100644",
                "a/b/d 0 100644",
            ]
        );
    }
}
