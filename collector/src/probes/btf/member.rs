//! Members of a struct, including those of anonymous structs and unions in it.

use std::collections::{HashSet, VecDeque};

use super::{
    KernelTypes,
    format::{Kind, Type},
};

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Bits from the start of the outermost struct.
    pub bits: u32,
    /// Width, for a bit-field.
    pub width: Option<u32>,
}

/// A named member.
struct Member<'a> {
    name: &'a str,
    place: Place,
    /// Id of its type.
    id: u32,
}

impl KernelTypes {
    /// Every counter in a struct of statistics (`kvm_vm_stat`, `kvm_vcpu_stat`) with its byte
    /// offset, in the order of the offsets. The name is the one that KVM gives it in debugfs and
    /// in its binary statistics. Only single 64-bit numbers, no histograms.
    pub fn counters(&self, of: &str) -> Vec<(String, u32)> {
        let mut counters: Vec<(String, u32)> = self
            .types(of)
            .map(|found| {
                // The counters that KVM has on all architectures are in a struct in this one.
                members(found, Some("generic"))
                    .into_iter()
                    .filter(|member| {
                        member.place.bits % 8 == 0
                            && member.place.width.is_none()
                            && found.other(member.id).is_some_and(is_64_bits)
                    })
                    .map(|member| (member.name.to_owned(), member.place.bits / 8))
                    .collect()
            })
            .find(|counters: &Vec<_>| !counters.is_empty())
            .unwrap_or_default();
        counters.sort_by_key(|&(_, offset)| offset);
        counters
    }

    /// Elements of the array at `path` in struct or union `of`.
    pub fn elements(&self, of: &str, path: &str) -> Option<u32> {
        self.place(of, path)?.1.elements()
    }

    /// The place of `path` (`a.b.c`) in struct or union `of`, and the type found there.
    pub(super) fn place(&self, of: &str, path: &str) -> Option<(Place, Type<'_>)> {
        self.types(of).find_map(|start| {
            let mut at = Place {
                bits: 0,
                width: None,
            };
            let mut here = start;
            for step in path.split('.') {
                let found = members(here, None)
                    .into_iter()
                    .find(|member| member.name == step)?;
                at = Place {
                    bits: at.bits.checked_add(found.place.bits)?,
                    width: found.place.width,
                };
                here = here.other(found.id)?.unqualified()?;
            }
            Some((at, here))
        })
    }
}

/// Every member of a struct or union; none of anything else. Anonymous members, and the one called
/// `dissolved`, are replaced by their own members.
fn members<'a>(of: Type<'a>, dissolved: Option<&str>) -> Vec<Member<'a>> {
    let mut found = Vec::new();
    // Each type is opened once, so that one that claims to contain itself ends too.
    let mut seen = HashSet::new();
    let mut open = VecDeque::from([(of, 0)]);
    while let Some((within, start)) = open.pop_front() {
        for field in within.members() {
            let Some(bits) = field.bits.checked_add(start) else {
                continue;
            };
            if field.name.is_empty() || dissolved == Some(field.name) {
                if seen.insert(field.id)
                    && let Some(inner) = within.other(field.id).and_then(Type::unqualified)
                {
                    open.push_back((inner, bits));
                }
                continue;
            }
            found.push(Member {
                name: field.name,
                place: Place {
                    bits,
                    width: field.width,
                },
                id: field.id,
            });
        }
    }
    found
}

/// A number of 64 bits. An atomic one is a struct with nothing but the number.
fn is_64_bits(found: Type<'_>) -> bool {
    let Some(found) = found.unqualified() else {
        return false;
    };
    if found.size() != Some(8) {
        return false;
    }
    match found.kind() {
        Kind::Int => true,
        Kind::Struct => {
            let mut members = found.members();
            let (Some(number), None) = (members.next(), members.next()) else {
                return false;
            };
            let number = found.other(number.id).and_then(Type::unqualified);
            number.is_some_and(|number| number.kind() == Kind::Int)
        }
        _ => false,
    }
}
