//! KVM's own counters, through `KVM_GET_STATS_FD`.
//!
//! The file is self-describing: a header, descriptors with names, and the data
//! (`Documentation/virt/kvm/api.rst` section 4.133, Linux 5.14). All counters of the kernel are
//! read.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;

use kvm_bindings::KVMIO;
use vmm_sys_util::ioctl::ioctl;
use vmm_sys_util::ioctl_io_nr;

use super::error::VmmError;

ioctl_io_nr!(KVM_GET_STATS_FD, KVMIO, 0xce);

/// All counters of a VM, by name, in the kernel's order and units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvmStats {
    /// Counters of the VM.
    pub vm: Vec<(String, u64)>,
    /// Counters of each vCPU.
    pub vcpus: Vec<Vec<(String, u64)>>,
}

/// Bytes of `struct kvm_stats_header`.
const HEADER_BYTES: usize = 24;
/// Bytes of `struct kvm_stats_desc` before the name.
const DESCRIPTOR_BYTES: usize = 16;
/// More than any kernel has: a malformed file must not exhaust memory.
const MAX_DESCRIPTORS: usize = 1024;
const MAX_NAME_BYTES: usize = 256;
const MAX_VALUES: usize = 1024;

/// The open statistics file of one VM or vCPU; names are read once.
#[derive(Debug)]
pub(super) struct StatsFile {
    file: File,
    counters: Vec<Counter>,
    data_offset: u64,
    data_bytes: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Counter {
    name: String,
    /// Bytes from the start of the data.
    offset: usize,
    /// 1, or the number of a histogram's buckets.
    values: usize,
}

impl StatsFile {
    /// `of` is a VM or a vCPU.
    pub(super) fn open(of: &impl AsRawFd) -> Result<Self, VmmError> {
        // SAFETY: the ioctl takes no argument and returns a new file descriptor.
        let fd = unsafe { ioctl(of, KVM_GET_STATS_FD()) };
        if fd < 0 {
            return Err(VmmError::GetStatsFd(io::Error::last_os_error()));
        }
        // SAFETY: the descriptor is new, and nothing else owns it.
        let file = unsafe { File::from_raw_fd(fd) };

        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0)
            .map_err(VmmError::ReadStats)?;
        let header = Header::parse(&header).map_err(malformed)?;
        let mut descriptors = vec![0; header.descriptors * header.stride()];
        file.read_exact_at(&mut descriptors, header.descriptors_offset)
            .map_err(VmmError::ReadStats)?;
        let counters = header.counters(&descriptors).map_err(malformed)?;
        let end = |counter: &Counter| counter.offset + counter.values * 8;
        let data_bytes = counters.iter().map(end).max().unwrap_or(0);
        Ok(Self {
            file,
            counters,
            data_offset: header.data_offset,
            data_bytes,
        })
    }

    /// The current values.
    pub(super) fn read(&self) -> Result<Vec<(String, u64)>, VmmError> {
        let mut data = vec![0; self.data_bytes];
        self.file
            .read_exact_at(&mut data, self.data_offset)
            .map_err(VmmError::ReadStats)?;
        Ok(values(&self.counters, &data))
    }
}

fn malformed(what: String) -> VmmError {
    VmmError::StatsFormat { what }
}

/// `struct kvm_stats_header`.
#[derive(Debug)]
struct Header {
    name_bytes: usize,
    descriptors: usize,
    descriptors_offset: u64,
    data_offset: u64,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, String> {
        let field = |index: usize| word(bytes, index * 4);
        let (name_bytes, descriptors) = (field(1) as usize, field(2) as usize);
        if name_bytes > MAX_NAME_BYTES || descriptors > MAX_DESCRIPTORS {
            return Err(format!(
                "{descriptors} counters with names of {name_bytes} bytes"
            ));
        }
        Ok(Self {
            name_bytes,
            descriptors,
            descriptors_offset: field(4).into(),
            data_offset: field(5).into(),
        })
    }

    fn stride(&self) -> usize {
        DESCRIPTOR_BYTES + self.name_bytes
    }

    fn counters(&self, descriptors: &[u8]) -> Result<Vec<Counter>, String> {
        descriptors
            .chunks_exact(self.stride())
            .map(counter)
            .collect()
    }
}

/// `struct kvm_stats_desc`: flags, exponent (16 bits), size (16), offset, bucket size, name.
fn counter(descriptor: &[u8]) -> Result<Counter, String> {
    let (fields, name) = descriptor.split_at(DESCRIPTOR_BYTES);
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    let values = (word(fields, 4) >> 16) as usize;
    let offset = word(fields, 8) as usize;
    if values > MAX_VALUES || offset > MAX_DESCRIPTORS * MAX_VALUES * 8 {
        return Err(format!(
            "counter '{name}' has {values} values at offset {offset}"
        ));
    }
    Ok(Counter {
        name,
        offset,
        values,
    })
}

/// Values by name; a histogram's buckets are `name[0]`, `name[1]`, …
fn values(counters: &[Counter], data: &[u8]) -> Vec<(String, u64)> {
    let mut result = Vec::new();
    for Counter {
        name,
        offset,
        values,
    } in counters
    {
        let (numbers, _) = data[*offset..offset + values * 8].as_chunks::<8>();
        for (bucket, number) in numbers.iter().enumerate() {
            let name = if *values == 1 {
                name.clone()
            } else {
                format!("{name}[{bucket}]")
            };
            result.push((name, u64::from_ne_bytes(*number)));
        }
    }
    result
}

/// The 32-bit number at `offset`; callers read inside parts of fixed size only.
fn word(bytes: &[u8], offset: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_ne_bytes(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(size: u16, offset: u32, name: &[u8; 8]) -> Vec<u8> {
        let mut bytes = vec![0; 6];
        bytes.extend(size.to_ne_bytes());
        bytes.extend(offset.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(name);
        bytes
    }

    #[test]
    fn counters_and_histograms_are_read() {
        let header = Header {
            name_bytes: 8,
            descriptors: 2,
            descriptors_offset: 0,
            data_offset: 0,
        };
        let mut descriptors = descriptor(1, 16, b"pf_fixed");
        descriptors.extend(descriptor(2, 0, b"poll\0\0\0\0"));
        let counters = header.counters(&descriptors).unwrap();
        let data: Vec<u8> = [7u64, 8, 9]
            .into_iter()
            .flat_map(u64::to_ne_bytes)
            .collect();
        let expected = [("pf_fixed", 9), ("poll[0]", 7), ("poll[1]", 8)];
        let expected: Vec<_> = expected
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        assert_eq!(values(&counters, &data), expected);
    }

    #[test]
    fn excessive_sizes_are_refused() {
        assert!(Header::parse(&[0xff; HEADER_BYTES]).is_err());
        assert!(counter(&descriptor(u16::MAX, 0, b"12345678")).is_err());
        assert!(counter(&descriptor(1, u32::MAX, b"12345678")).is_err());
    }
}
