//! What 32-bit code does: a list of steps that [`super::switch`] carries out.

use abi::{Gpa, Gva, PAGE_BYTES, Phase};

use crate::check::Check;

/// One step, as the assembly reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    kind: u32,
    address: u32,
    value: u32,
    count: u32,
    /// Bytes from an address to the next.
    stride: u32,
    /// From a value to the next.
    add: u32,
    /// Loads that found another value.
    bad: u32,
    /// Accesses that faulted.
    refused: u32,
    /// Their error codes, all bits that one of them had.
    code: u32,
}

const STORE: u32 = 1;
const LOAD: u32 = 2;
const INVALIDATE: u32 = 3;
const MARK: u32 = 4;

/// Maximum number of steps.
const STEPS: usize = 48;

/// A list of steps. The rest of it is zero, which ends it.
#[repr(C)]
#[derive(Debug)]
pub struct Script {
    steps: [Step; STEPS + 1],
    used: usize,
    /// How many accesses of each step must fault.
    refused: [u32; STEPS],
}

impl Script {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            steps: [Step::default(); STEPS + 1],
            used: 0,
            refused: [0; STEPS],
        }
    }

    fn add(&mut self, step: Step, refused: u64) {
        assert!(self.used < STEPS, "the script is full");
        self.steps[self.used] = step;
        self.refused[self.used] = refused as u32;
        self.used += 1;
    }

    fn pages(kind: u32, from: Gva, count: u64, value: u64) -> Step {
        Step {
            kind,
            address: from.0 as u32,
            value: value as u32,
            count: count as u32,
            stride: PAGE_BYTES as u32,
            add: 1,
            ..Step::default()
        }
    }

    /// Stores `value` to the first page, the next number to the next.
    pub fn store(&mut self, from: Gva, count: u64, value: u64) {
        self.add(Self::pages(STORE, from, count, value), 0);
    }

    /// Loads what `store` has stored.
    pub fn load(&mut self, from: Gva, count: u64, value: u64) {
        // An empty range has no step: the code counts down to zero.
        if count > 0 {
            self.add(Self::pages(LOAD, from, count, value), 0);
        }
    }

    /// Loads that must fault, since nothing is mapped.
    pub fn refused(&mut self, from: Gva, count: u64) {
        self.add(Self::pages(LOAD, from, count, 0), count);
    }

    /// INVLPG of pages.
    pub fn invalidate(&mut self, from: Gva, count: u64) {
        self.add(Self::pages(INVALIDATE, from, count, 0), 0);
    }

    /// Stores to the lower halves of `count` entries of `bytes` bytes: `value`, then `add` more
    /// for each.
    pub fn set(&mut self, entry: Gpa, bytes: u64, count: u64, value: u64, add: u64) {
        let step = Step {
            kind: STORE,
            address: entry.0 as u32,
            value: value as u32,
            count: count as u32,
            stride: bytes as u32,
            add: add as u32,
            ..Step::default()
        };
        if count > 0 {
            self.add(step, 0);
        }
    }

    /// Reports that a phase begins.
    pub fn mark(&mut self, phase: Phase) {
        let at = abi::layout::mailbox(0).add(core::mem::offset_of!(abi::Mailbox, phase) as u64);
        let step = Step {
            kind: MARK,
            address: at.0 as u32,
            value: phase.number(),
            count: 1,
            ..Step::default()
        };
        self.add(step, 0);
    }

    /// Checks what was found; `round` is the page of a check that failed.
    pub fn check(&self, round: u64, check: &mut Check) {
        let found = (&raw const self.steps).cast::<Step>();
        for (number, &refused) in self.refused.iter().take(self.used).enumerate() {
            // SAFETY: inside the array; the code has stored to it since.
            let step = unsafe { found.add(number).read_volatile() };
            check.value(round, step.bad.into(), 0);
            check.refusals(step.refused.into(), refused.into());
            // Reads by CPL0 of what is not present.
            check.value(round, step.code.into(), 0);
        }
    }
}
