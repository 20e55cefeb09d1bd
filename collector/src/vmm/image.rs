//! Loads the guest's ELF image into guest memory.

use abi::layout::{IMAGE, IMAGE_END};
use abi::{Gpa, Gva};
use object::elf::{EM_X86_64, ET_EXEC, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, read};

use super::error::VmmError;
use super::memory::Ram;

/// Loads every segment and returns the entry point. Bytes that a segment has in memory but not in
/// the file stay zero.
pub(super) fn load(elf: &[u8], ram: &Ram) -> Result<Gva, VmmError> {
    let image = parse(elf).map_err(|what| VmmError::Image { what })?;
    for segment in &image.segments {
        ram.write(segment.to, segment.bytes)?;
    }
    Ok(image.entry)
}

#[derive(Debug)]
struct Image<'a> {
    entry: Gva,
    segments: Vec<Segment<'a>>,
}

#[derive(Debug)]
struct Segment<'a> {
    to: Gpa,
    bytes: &'a [u8],
}

fn parse(elf: &[u8]) -> Result<Image<'_>, String> {
    let bad = |error: read::Error| error.to_string();
    let header = FileHeader64::<Endianness>::parse(elf).map_err(bad)?;
    let endian = header.endian().map_err(bad)?;
    if endian != Endianness::Little || header.e_machine(endian) != EM_X86_64 {
        return Err("not an x86-64 ELF file".into());
    }
    if header.e_type(endian) != ET_EXEC {
        return Err("not a static executable (ET_EXEC)".into());
    }
    let mut segments = Vec::new();
    for program in header.program_headers(endian, elf).map_err(bad)? {
        let (at, memory_bytes) = (program.p_vaddr(endian), program.p_memsz(endian));
        if program.p_type(endian) != PT_LOAD || memory_bytes == 0 {
            continue;
        }
        let bytes = program
            .data(endian, elf)
            .map_err(|()| format!("the segment at {at:#x} is truncated"))?;
        let inside = at >= IMAGE.0
            && at
                .checked_add(memory_bytes)
                .is_some_and(|end| end <= IMAGE_END.0)
            && bytes.len() as u64 <= memory_bytes;
        if !inside {
            return Err(format!(
                "a segment of {memory_bytes} bytes at {at:#x} is not inside {IMAGE}..{IMAGE_END}"
            ));
        }
        segments.push(Segment { to: Gpa(at), bytes });
    }
    let entry = Gva(header.e_entry(endian));
    if !(IMAGE.0..IMAGE_END.0).contains(&entry.0) {
        return Err(format!("its entry point {entry} is outside the image"));
    }
    Ok(Image { entry, segments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use workloads::GUEST_IMAGE;

    #[test]
    fn the_image_of_the_build_is_valid() {
        let image = parse(GUEST_IMAGE).unwrap();
        assert!(!image.segments.is_empty());
    }

    #[test]
    fn damaged_images_are_refused_or_stay_in_their_range() {
        assert!(parse(&[]).is_err());
        assert!(parse(&GUEST_IMAGE[..100]).is_err());
        // Every byte of the headers in turn: an error, or segments inside the image's range.
        for index in 0..64 + 8 * 56 {
            let mut elf = GUEST_IMAGE.to_vec();
            for byte in [0x00, 0x7f, 0xff] {
                elf[index] = byte;
                for segment in parse(&elf).into_iter().flat_map(|image| image.segments) {
                    let end = segment.to.0 + segment.bytes.len() as u64;
                    assert!(
                        segment.to >= IMAGE && end <= IMAGE_END.0,
                        "byte {index} = {byte:#x}"
                    );
                }
            }
        }
    }
}
