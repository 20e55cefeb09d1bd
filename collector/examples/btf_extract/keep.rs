//! What is wanted, and what that cannot be described without.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::{
    entry::Kind,
    kernel::{Kernel, Place},
    wanted::Wanted,
};

/// What must be known of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// Another type points to it.
    Name,
    /// It is part of another.
    Size,
    /// It is wanted itself, or has no name to look it up by.
    Members,
}

/// Every type to keep.
pub fn closure(kernel: &Kernel, wanted: &Wanted) -> Result<BTreeMap<Place, Need>> {
    let mut kept = BTreeMap::new();
    let mut open = Vec::new();
    for section in 0..kernel.sections.len() {
        for (place, entry) in kernel.places(section) {
            if wanted.has(kernel, section, entry)? {
                open.push((place, Need::Members));
            }
        }
    }
    while let Some((place, need)) = open.pop() {
        let mut entry = kernel.entry(place)?.clone();
        let anonymous = kernel.name(place.0, entry.name)?.is_empty();
        let is_struct = entry.kind() == Kind::Struct;
        let need = if is_struct && (anonymous || wanted.has(kernel, place.0, &entry)?) {
            Need::Members
        } else {
            need
        };
        if kept.get(&place).is_some_and(|&known| known >= need) {
            continue;
        }
        kept.insert(place, need);
        if is_struct && need < Need::Members {
            continue;
        }
        let of_parts = match entry.kind() {
            Kind::Pointer => Need::Name,
            Kind::Alias | Kind::Array => need,
            _ => Need::Size,
        };
        for &mut id in entry.ids() {
            if id != 0 {
                open.push((kernel.place(place.0, id), of_parts));
            }
        }
    }
    Ok(kept)
}
