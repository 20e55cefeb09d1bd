//! Bytes of the ring to rows.

#![no_main]

use events::RoleLayout;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((layout, bytes)) = bytes.split_first_chunk::<{ size_of::<RoleLayout>() }>() else {
        return;
    };
    collector::fuzz::ring(bytes, &bytemuck::pod_read_unaligned(layout), drop);
});
