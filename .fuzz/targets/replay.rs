//! Records to replay and to every analysis that follows it.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::replay::replay(bytes));
