//! The decoders of bytes that this program did not make, for fuzzers and for the tests of any bytes.

use events::RoleLayout;
use trace::Batch;

use crate::{
    probes::KernelTypes,
    record::{Chunk, decode},
};

/// Takes a piece of the ring apart: records with their lengths before them. Passes the rows of each
/// on, until one is no record.
pub fn ring(bytes: &[u8], layout: &RoleLayout, mut each: impl FnMut(Batch)) {
    let chunk = Chunk::from(bytes);
    for record in chunk.records() {
        let mut rows = Batch::default();
        if decode(record, layout, |mark| format!("phase {mark}"), &mut rows).is_err() {
            return;
        }
        each(rows);
    }
}

/// Asks types for everything that a kernel is asked.
pub fn btf(vmlinux: &[u8], kvm: Option<&[u8]>) {
    let Some(types) = KernelTypes::from_bytes(vmlinux, kvm) else {
        return;
    };
    _ = types.resolve();
    for of in ["kvm_vcpu", "kvm_mmu_page_role", "a"] {
        _ = types.size(of);
        _ = types.counters(of);
        _ = types.offset(of, "a.a");
        _ = types.bitfield(of, "level");
    }
    for name in ["hva_to_pfn", "make_spte", "a"] {
        _ = types.function(name);
        _ = types.tracepoint(name);
        _ = types.elements("a", name);
    }
}
