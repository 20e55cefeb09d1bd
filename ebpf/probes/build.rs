//! bpf-linker generates the code, so it must know which instructions the code may use.

fn main() {
    // Atomic fetch-and-add (in every kernel since 5.12) comes with the 32-bit instructions, and
    // only for the strongest ordering: for a weaker one LLVM picks the old form that returns
    // nothing. Without the 32-bit jumps of the third set, which aya-build cannot choose, LLVM
    // compares a u32 with a sign-extended constant: never compare with a constant above
    // `i32::MAX`.
    println!("cargo::rustc-link-arg-bins=--cpu-features=+alu32");
    println!("cargo::rerun-if-changed=build.rs");
}
