//! Any bytes give types or an error: never a panic, never a search without end.

use std::fs;

use proptest::{prelude::*, sample::Index};

use super::{KERNELS, fixture};
use crate::{fuzz::btf as ask, probes::btf::KernelTypes};

/// Changes a few bytes, then cuts.
fn spoil(bytes: &mut Vec<u8>, changes: &[(Index, u8)], end: Option<Index>) {
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    if let Some(end) = end {
        bytes.truncate(end.index(bytes.len()));
    }
}

proptest! {
    #[test]
    fn spoiled_btf(
        kernel in prop::sample::select(&KERNELS[..]),
        changes: Vec<(Index, u8)>,
        header: Option<(Index, u8)>,
        end: Option<Index>,
        in_kvm: bool,
    ) {
        let mut vmlinux = fs::read(fixture(kernel).join("vmlinux")).expect("checked in");
        let mut kvm = fs::read(fixture(kernel).join("kvm")).ok();
        let spoiled = match &mut kvm {
            Some(kvm) if in_kvm => kvm,
            _ => &mut vmlinux,
        };
        spoil(&mut *spoiled, &changes, end);
        if let Some((at, byte)) = header && spoiled.len() >= 24 {
            spoiled[at.index(24)] = byte;
        }
        ask(&vmlinux, kvm.as_deref());
    }

    #[test]
    fn any_types(words: Vec<u32>, kinds: Vec<(u8, u8)>) {
        // Words at random are hardly ever a type: give them kinds and few members.
        let mut types = words;
        for (word, (kind, members)) in types.iter_mut().skip(1).step_by(3).zip(kinds) {
            *word = u32::from(kind % 20) << 24 | u32::from(members % 4);
        }
        ask(&btf(&types), None);
    }

    #[test]
    fn any_bytes(bytes: Vec<u8>) {
        ask(&bytes, Some(&bytes));
    }
}

/// BTF with these types; the name at 1 is `a`, at 3 `btf_trace_a`.
fn btf(types: &[u32]) -> Vec<u8> {
    const STRINGS: &[u8] = b"\0a\0btf_trace_a\0";
    let length = types.len() as u32 * 4;
    [0x0001_eb9f, 24, 0, length, length, STRINGS.len() as u32]
        .iter()
        .chain(types)
        .flat_map(|word| word.to_le_bytes())
        .chain(STRINGS.iter().copied())
        .collect()
}

const PTR: u32 = 2 << 24;
const STRUCT: u32 = 4 << 24;
const TYPEDEF: u32 = 8 << 24;
const CONST: u32 = 10 << 24;
const FUNC: u32 = 12 << 24;
const FUNC_PROTO: u32 = 13 << 24;

#[test]
fn types_that_never_end() {
    // A typedef of itself.
    ask(&btf(&[1, TYPEDEF, 1]), None);
    ask(&btf(&[3, TYPEDEF, 1]), None);
    // A struct of nothing but two anonymous structs like itself.
    ask(&btf(&[1, STRUCT | 2, 8, 0, 1, 0, 0, 1, 64]), None);
    // A function with a parameter that is a pointer to itself, and one that is const for ever.
    let a = [1, FUNC, 2, 0, FUNC_PROTO | 1, 0, 1, 3];
    ask(&btf(&[&a[..], &[0, PTR, 3]].concat()), None);
    ask(&btf(&[&a[..], &[0, CONST, 3]].concat()), None);
    // A member further away than 32 bits reach.
    ask(&btf(&[1, STRUCT | 1, 8, 1, 1, u32::MAX]), None);
}

/// The same by hand, of well-formed types: the search does find what is there.
#[test]
fn a_member_of_a_member() {
    // struct a { void *a; } within an anonymous struct, 8 bytes from the start of struct a.
    let types = [
        [0, PTR, 0].as_slice(),
        &[0, STRUCT | 1, 8, 1, 1, 0],
        &[1, STRUCT | 1, 16, 0, 2, 64],
    ];
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("vmlinux"), btf(&types.concat())).expect("a file");
    let types = KernelTypes::from_folder(folder.path()).expect("BTF");
    assert_eq!(types.offset("a", "a"), Some(8));
    assert_eq!(types.size("a"), Some(16));
}
