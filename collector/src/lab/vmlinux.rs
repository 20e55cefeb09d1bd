//! The kernel proper, out of a bzImage: decompressed, as it lies in memory.

use std::io::{self, Read as _};

use object::{
    Endianness,
    elf::{FileHeader64, PT_LOAD},
    read::elf::{FileHeader as _, ProgramHeader as _},
};

/// The largest image and memory of a kernel; a real one has less than half.
const LARGEST: u64 = 256 << 20;

/// Why it could not be taken out.
#[derive(Debug, thiserror::Error)]
pub enum VmlinuxError {
    /// A field of the header lies outside of the file.
    #[error("the kernel's header is cut or damaged")]
    Header,
    /// Boot protocol before 2.12.
    #[error("the kernel has no 64-bit entry point")]
    No64Bit,
    /// Neither xz nor zstd.
    #[error("the kernel is compressed with something other than xz or zstd")]
    Compression,
    /// It could not be decompressed.
    #[error("while decompressing the kernel")]
    Decompress(#[source] io::Error),
    /// Not the ELF file that it should be.
    #[error("the kernel's image is not a sound ELF file: {0}")]
    Elf(&'static str),
}

/// A kernel at its physical addresses.
#[derive(Debug)]
pub struct Vmlinux {
    /// The setup header, which begins at 0x1f1 of the image and of `struct boot_params`.
    pub header: Vec<u8>,
    /// Where it begins.
    pub begin: u64,
    /// Where what it uses before it knows the memory ends.
    pub end: u64,
    /// Where it is entered, in 64-bit mode.
    pub entry: u64,
    /// Its bytes, from `begin`.
    pub image: Vec<u8>,
}

/// A little-endian number of the header.
fn number(image: &[u8], at: usize) -> Option<u64> {
    let bytes = image.get(at..at + 4)?;
    Some(u64::from(u32::from_le_bytes(bytes.try_into().ok()?)))
}

impl Vmlinux {
    /// Takes it out of a bzImage.
    pub fn of(image: &[u8]) -> Result<Self, VmlinuxError> {
        let (header, payload, init_bytes) = parts(image).ok_or(VmlinuxError::Header)?;
        // XLF_KERNEL_64 in `xloadflags`, which exists since protocol 2.12.
        if image.get(0x236).is_none_or(|flags| flags & 1 == 0) {
            return Err(VmlinuxError::No64Bit);
        }
        let elf = decompressed(payload)?;
        Self::of_elf(header.to_vec(), &elf, init_bytes)
    }

    fn of_elf(header: Vec<u8>, elf: &[u8], init_bytes: u64) -> Result<Self, VmlinuxError> {
        let failed = |_| VmlinuxError::Elf("its headers");
        let file = FileHeader64::<Endianness>::parse(elf).map_err(failed)?;
        let endian = file.endian().map_err(failed)?;
        let segments = file.program_headers(endian, elf).map_err(failed)?;
        let loaded: Vec<_> = segments
            .iter()
            .filter(|segment| segment.p_type(endian) == PT_LOAD)
            .collect();
        let ends = loaded.iter().map(|segment| {
            let (begin, bytes) = (segment.p_paddr(endian), segment.p_memsz(endian));
            begin.checked_add(bytes)
        });
        let begin = loaded.iter().map(|segment| segment.p_paddr(endian)).min();
        let end = ends
            .collect::<Option<Vec<_>>>()
            .and_then(|ends| ends.into_iter().max());
        let (Some(begin), Some(end)) = (begin, end) else {
            return Err(VmlinuxError::Elf("its segments"));
        };
        let bytes = end - begin;
        if bytes > LARGEST {
            return Err(VmlinuxError::Elf("its size"));
        }
        let mut image = vec![0; usize::try_from(bytes).unwrap_or(0)];
        for segment in loaded {
            let data = segment.data(endian, elf);
            let data = data.map_err(|()| VmlinuxError::Elf("a segment"))?;
            let at = usize::try_from(segment.p_paddr(endian) - begin).unwrap_or(usize::MAX);
            let place = at
                .checked_add(data.len())
                .and_then(|end| image.get_mut(at..end));
            let place = place.ok_or(VmlinuxError::Elf("a segment's size"))?;
            place.copy_from_slice(data);
        }
        Ok(Self {
            header,
            begin,
            end: end.max(begin.saturating_add(init_bytes)),
            entry: file.e_entry(endian),
            image,
        })
    }
}

/// The setup header, the compressed kernel, and the memory that the kernel needs to start.
fn parts(image: &[u8]) -> Option<(&[u8], &[u8], u64)> {
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let header = image.get(0x1f1..0x202 + usize::from(*image.get(0x201)?))?;
    // 0: four sectors.
    let sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let at = 512 * (sectors + 1) + usize::try_from(number(image, 0x248)?).ok()?;
    let bytes = usize::try_from(number(image, 0x24c)?).ok()?;
    let payload = image.get(at..at.checked_add(bytes)?)?;
    Some((header, payload, number(image, 0x260)?.min(LARGEST)))
}

/// The size of the result follows the compressed stream: the stream says itself where it ends.
fn decompressed(payload: &[u8]) -> Result<Vec<u8>, VmlinuxError> {
    let mut elf = Vec::new();
    let reader: Box<dyn io::Read> = match payload {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(liblzma::read::XzDecoder::new(payload)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = zstd::Decoder::with_buffer(payload);
            Box::new(decoder.map_err(VmlinuxError::Decompress)?.single_frame())
        }
        _ => return Err(VmlinuxError::Compression),
    };
    let read = reader.take(LARGEST).read_to_end(&mut elf);
    read.map_err(VmlinuxError::Decompress)?;
    Ok(elf)
}
