//! Members of a struct, those of anonymous structs and unions within included.

use std::collections::{HashSet, VecDeque};

use btf_rs::{Btf, BtfType, Type};

use super::{KernelTypes, unqualified};

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Bits from the start of the outermost struct.
    pub bits: u32,
    /// Width, for a bit-field.
    pub width: Option<u32>,
}

/// A named member.
struct Member {
    name: String,
    place: Place,
    /// Its type.
    id: u32,
}

impl KernelTypes {
    /// Every counter in a struct of statistics (`kvm_vm_stat`, `kvm_vcpu_stat`) with its byte offset,
    /// by offset; its name is the one that KVM gives it in debugfs and in its binary statistics.
    /// Only single 64-bit numbers, no histograms.
    pub fn counters(&self, of: &str) -> Vec<(String, u32)> {
        let mut counters: Vec<(String, u32)> = self
            .types(of)
            .map(|(part, found)| {
                // What KVM on all architectures has is in a struct of its own.
                members(part, found, Some("generic"))
                    .into_iter()
                    .filter(|member| {
                        member.place.bits % 8 == 0
                            && member.place.width.is_none()
                            && is_64_bits(part, member.id)
                    })
                    .map(|member| (member.name, member.place.bits / 8))
                    .collect()
            })
            .find(|counters: &Vec<_>| !counters.is_empty())
            .unwrap_or_default();
        counters.sort_by_key(|&(_, offset)| offset);
        counters
    }

    /// The place of `path` (`a.b.c`) in struct or union `of`, and the type found there.
    pub(super) fn place(&self, of: &str, path: &str) -> Option<(Place, Type)> {
        self.types(of).find_map(|(part, start)| {
            let mut at = Place {
                bits: 0,
                width: None,
            };
            let mut here = start;
            for step in path.split('.') {
                let found = members(part, here, None)
                    .into_iter()
                    .find(|member| member.name == step)?;
                at = Place {
                    bits: at.bits.checked_add(found.place.bits)?,
                    width: found.place.width,
                };
                here = unqualified(part, found.id)?;
            }
            Some((at, here))
        })
    }
}

/// Every member of a struct or union; none, if it is neither. Anonymous members, and the one
/// called `dissolved`, are replaced by theirs.
fn members(part: &Btf, of: Type, dissolved: Option<&str>) -> Vec<Member> {
    let mut found = Vec::new();
    // Each type is looked into once, so that one that claims to contain itself ends, too.
    let mut seen = HashSet::new();
    let mut open = VecDeque::from([(of, 0)]);
    while let Some((within, start)) = open.pop_front() {
        let (Type::Struct(within) | Type::Union(within)) = within else {
            continue;
        };
        for field in &within.members {
            let (Ok(name), Some(id), Some(bits)) = (
                part.resolve_name(field),
                field.get_type_id(),
                field.bit_offset().checked_add(start),
            ) else {
                continue;
            };
            if name.is_empty() || dissolved == Some(&name) {
                if seen.insert(id)
                    && let Some(inner) = unqualified(part, id)
                {
                    open.push_back((inner, bits));
                }
                continue;
            }
            let width = field.bitfield_size().filter(|&width| width > 0);
            found.push(Member {
                name,
                place: Place { bits, width },
                id,
            });
        }
    }
    found
}

/// A number of 64 bits, also an atomic one: that is a struct with nothing but the number.
fn is_64_bits(part: &Btf, id: u32) -> bool {
    match unqualified(part, id) {
        Some(Type::Int(int)) => int.size() == 8,
        Some(Type::Struct(atomic)) if atomic.size() == 8 => match atomic.members.as_slice() {
            [number] => number
                .get_type_id()
                .and_then(|id| unqualified(part, id))
                .is_some_and(|number| matches!(number, Type::Int(_))),
            _ => false,
        },
        _ => false,
    }
}
