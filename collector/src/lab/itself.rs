//! This program as the lab's init. What only a debugger reads is left out: half of the file, which
//! the emulated machine would copy.

use std::{fs, io, path::Path};

use object::{
    Endianness,
    elf::FileHeader64,
    read::elf::{FileHeader as _, ProgramHeader as _},
};

/// The fields of the ELF header that describe sections: `e_shoff`; `e_shnum` and `e_shstrndx`.
const SECTION_FIELDS: [std::ops::Range<usize>; 2] = [0x28..0x30, 0x3c..0x40];

/// The program without symbols and section headers.
pub fn stripped() -> io::Result<Vec<u8>> {
    let mut program = fs::read(Path::new("/proc/self/exe"))?;
    if let Some(bytes) = loaded_bytes(&program) {
        program.truncate(bytes);
        for field in SECTION_FIELDS {
            program[field].fill(0);
        }
    }
    Ok(program)
}

/// The length of the part that its segments load; `None` if the rest cannot be left out.
fn loaded_bytes(elf: &[u8]) -> Option<usize> {
    let header = FileHeader64::<Endianness>::parse(elf).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, elf).ok()?;
    let end = segments
        .iter()
        .map(|segment| {
            segment
                .p_offset(endian)
                .checked_add(segment.p_filesz(endian))
        })
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .max()?;
    let end = usize::try_from(end).ok()?;
    // Its own header and the list of segments lie in the first of them.
    (0x40..=elf.len()).contains(&end).then_some(end)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, process::Command};

    use super::*;

    #[test]
    fn the_program_runs_without_its_sections() {
        let bytes = stripped().expect("this program");
        let whole = fs::metadata("/proc/self/exe").expect("this program").len();
        assert!((bytes.len() as u64) < whole, "{} of {whole}", bytes.len());
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("program");
        fs::write(&path, bytes).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        let output = Command::new(&path)
            .arg("--list")
            .output()
            .expect("it starts");
        let list = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            list.contains("the_program_runs_without_its_sections"),
            "{list}"
        );
    }
}
