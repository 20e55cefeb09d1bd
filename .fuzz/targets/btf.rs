//! The kernel's description of its types. The first two bytes say where that of the module begins.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((at, bytes)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    match bytes.split_at_checked(u16::from_le_bytes(*at).into()) {
        Some((kvm, vmlinux)) => collector::fuzz::btf(vmlinux, Some(kvm)),
        None => collector::fuzz::btf(bytes, None),
    }
});
