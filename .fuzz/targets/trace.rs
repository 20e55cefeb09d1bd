//! `Trace::open` and every record. Half of the changes are those of the tests of hostile traces, with
//! the lengths and checksums of the segments mended; the other half are libFuzzer's own.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|bytes: &[u8]| fuzz::read::trace(bytes));

fuzz_mutator!(|bytes: &mut [u8], size: usize, most: usize, seed: u32| {
    if seed.is_multiple_of(2)
        && let Some(damaged) = fuzz::read::damaged(&bytes[..size], most, seed)
    {
        bytes[..damaged.len()].copy_from_slice(&damaged);
        return damaged.len();
    }
    fuzzer_mutate(bytes, size, most)
});
