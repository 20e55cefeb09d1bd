//! The kept types as BTF again.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};

use crate::{
    entry::{Entry, Kind},
    keep::Need,
    kernel::{HEADER, Kernel, Place, word},
};

/// File name and bytes of each section.
pub fn sections(
    kernel: &Kernel,
    kept: &BTreeMap<Place, Need>,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let ids = numbered(kept)?;
    let mut base = Strings::default();
    base.offset("")?;
    let mut written = Vec::new();
    for (index, section) in kernel.sections.iter().enumerate() {
        let mut strings = base.clone();
        let mut types = Vec::new();
        for (&place, &need) in kept.range((index, 0)..=(index, u32::MAX)) {
            let entry = kernel.entry(place)?;
            let mut entry = match (entry.kind(), need) {
                (Kind::Struct, Need::Name) => entry.forward(),
                (Kind::Struct, Need::Size) => entry.opaque(),
                _ => entry.clone(),
            };
            for name in entry.names() {
                *name = strings.offset(kernel.name(index, *name)?)?;
            }
            for id in entry.ids() {
                if *id != 0 {
                    *id = *ids
                        .get(&kernel.place(index, *id))
                        .context("a type that is referred to was not kept")?;
                }
            }
            types.push(entry);
        }
        let from = if index == 0 { 0 } else { base.bytes.len() };
        written.push((section.name, bytes(&types, &strings.bytes[from..])?));
        if index == 0 {
            base = strings;
        }
    }
    Ok(written)
}

/// New ids without gaps; each module continues those of vmlinux.
fn numbered(kept: &BTreeMap<Place, Need>) -> Result<HashMap<Place, u32>> {
    let mut next = BTreeMap::new();
    let base = word(kept.range(..(1, 0)).count())?;
    let ids = kept
        .keys()
        .map(|&place| {
            let id = next
                .entry(place.0)
                .or_insert(if place.0 == 0 { 0 } else { base });
            *id += 1;
            (place, *id)
        })
        .collect();
    Ok(ids)
}

/// Names, each once.
#[derive(Clone, Default)]
struct Strings {
    bytes: Vec<u8>,
    offsets: HashMap<String, u32>,
}

impl Strings {
    fn offset(&mut self, name: &str) -> Result<u32> {
        if let Some(&offset) = self.offsets.get(name) {
            return Ok(offset);
        }
        let offset = word(self.bytes.len())?;
        self.bytes.extend(name.bytes().chain([0]));
        self.offsets.insert(name.to_owned(), offset);
        Ok(offset)
    }
}

fn bytes(types: &[Entry], strings: &[u8]) -> Result<Vec<u8>> {
    let types: Vec<u32> = types
        .iter()
        .flat_map(|entry| {
            [entry.name, entry.info, entry.size_or_type]
                .into_iter()
                .chain(entry.rest.iter().copied())
        })
        .collect();
    let type_length = word(types.len() * 4)?;
    let header = [
        0x0001_eb9f,
        word(HEADER)?,
        0,
        type_length,
        type_length,
        word(strings.len())?,
    ];
    let mut bytes: Vec<u8> = header
        .iter()
        .chain(&types)
        .flat_map(|word| word.to_le_bytes())
        .collect();
    bytes.extend(strings);
    Ok(bytes)
}
