//! The BTF of a kernel: vmlinux's section, and those of the modules, which continue it.

use std::{fs, io::ErrorKind, path::Path};

use anyhow::{Context, Result, bail, ensure};

use crate::entry::Entry;

/// Length of the header that every kernel so far has.
pub const HEADER: usize = 24;

pub struct Section {
    pub name: &'static str,
    pub types: Vec<Entry>,
    strings: Vec<u8>,
}

/// vmlinux comes first. A module's ids and string offsets begin where vmlinux's end.
pub struct Kernel {
    pub sections: Vec<Section>,
    split: u32,
}

/// A count or an offset as BTF has it.
pub fn word(number: usize) -> Result<u32> {
    u32::try_from(number).with_context(|| format!("{number} is too large for BTF"))
}

/// A type: its section and its id.
pub type Place = (usize, u32);

impl Kernel {
    pub fn read(folder: &Path) -> Result<Self> {
        let mut sections = Vec::new();
        for name in ["vmlinux", "kvm", "kvm_amd", "kvm_intel"] {
            let path = folder.join(name);
            let while_reading = || format!("while reading {}", path.display());
            match fs::read(&path) {
                Ok(bytes) => sections.push(section(name, &bytes).with_context(while_reading)?),
                Err(error) if error.kind() == ErrorKind::NotFound && !sections.is_empty() => {}
                Err(error) => return Err(error).with_context(while_reading),
            }
        }
        let vmlinux = sections.first().map_or(0, |section| section.types.len());
        Ok(Self {
            sections,
            split: word(vmlinux + 1)?,
        })
    }

    /// The first id of a module; 0 is void.
    pub fn split(&self) -> u32 {
        self.split
    }

    /// Where `id` is, seen from a section.
    pub fn place(&self, section: usize, id: u32) -> Place {
        (if id < self.split() { 0 } else { section }, id)
    }

    /// All types of a section.
    pub fn places(&self, section: usize) -> impl Iterator<Item = (Place, &Entry)> {
        let first = if section == 0 { 1 } else { self.split() };
        (first..)
            .zip(&self.sections[section].types)
            .map(move |(id, entry)| ((section, id), entry))
    }

    pub fn entry(&self, (section, id): Place) -> Result<&Entry> {
        let first = if section == 0 { 1 } else { self.split() };
        id.checked_sub(first)
            .and_then(|index| self.sections[section].types.get(index as usize))
            .with_context(|| format!("{} has no type {id}", self.sections[section].name))
    }

    pub fn name(&self, section: usize, offset: u32) -> Result<&str> {
        let base = &self.sections[0].strings;
        let offset = offset as usize;
        let from = match offset.checked_sub(base.len()) {
            Some(after) if section > 0 => self.sections[section].strings.get(after..),
            _ => base.get(offset..),
        };
        let bytes = from
            .and_then(|from| from.split(|&byte| byte == 0).next())
            .with_context(|| format!("{} has no name {offset}", self.sections[section].name))?;
        Ok(str::from_utf8(bytes)?)
    }
}

fn section(name: &'static str, bytes: &[u8]) -> Result<Section> {
    let header = bytes.get(..HEADER).context("shorter than a header")?;
    let [
        magic,
        length,
        type_offset,
        type_length,
        string_offset,
        string_length,
    ] = words(header)[..]
    else {
        bail!("not a header");
    };
    ensure!(magic == 0x0001_eb9f, "not BTF of version 1, little-endian");
    let part = |offset: u32, size: u32| {
        let start = length as usize + offset as usize;
        bytes
            .get(start..start + size as usize)
            .context("a part of it is cut off")
    };
    let all = words(part(type_offset, type_length)?);
    let mut rest = all.as_slice();
    let mut types = Vec::new();
    while !rest.is_empty() {
        types.push(Entry::parse(&mut rest)?);
    }
    Ok(Section {
        name,
        types,
        strings: part(string_offset, string_length)?.to_vec(),
    })
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|&word| u32::from_le_bytes(word))
        .collect()
}
