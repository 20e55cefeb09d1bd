//! The operations of `micro`, and the guest's own times of them.

use crate::number::numbered;

numbered! {
    /// An operation of the workload `micro`.
    pub enum MicroOp {
        /// The first store to a page that the guest's tables map.
        ShadowFault = 1 => "shadow-fault",
        /// A store to a page that the guest's handler maps.
        PageFault = 2 => "page-fault",
        /// A store to a read-only page, which the guest's handler makes writable.
        ProtectionFault = 3 => "protection-fault",
        /// A page mapped, stored to, unmapped, and INVLPG.
        MapUnmap = 4 => "map-unmap",
        /// A load of CR3 with another root.
        Cr3Switch = 5 => "cr3-switch",
        /// A hypercall of the guest's kernel that KVM answers.
        Hypercall = 6 => "hypercall",
        /// An exception at CPL3 that the guest's kernel handles.
        Exception = 7 => "exception",
        /// CPUID in the guest's kernel.
        Cpuid = 8 => "cpuid",
        /// IN from a port that the VMM serves.
        Pio = 9 => "pio",
        /// An address space copied, both sides write-protected.
        Fork = 10 => "fork",
        /// SYSCALL at CPL3, and SYSRET at once.
        Syscall = 11 => "syscall",
        /// The same with the kernel in an address space of its own: a load of CR3 each way.
        SyscallKpti = 12 => "syscall-kpti",
    }
}

/// Maximum number of batches of a run.
pub const MAX_BATCHES: usize = 200;

/// What IN of 32 bits from [`crate::CALL_PORT`] reads.
pub const PORT_ANSWER: u32 = 0x5348_4f57;

/// The times of the batches of `micro`: at [`crate::layout::batches`], zero at first. The guest
/// writes it, and the VMM reads it at the end. It may hold any bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batches {
    /// How many were timed.
    pub count: u64,
    /// The shortest time of a batch that left out the operations, of as many, in guest TSC cycles.
    pub empty_cycles: u64,
    /// The time of each, in guest TSC cycles.
    pub cycles: [u64; MAX_BATCHES],
}

const _: () = assert!(size_of::<Batches>() == Batches::BYTES);

impl Batches {
    /// Size in bytes.
    pub const BYTES: usize = 16 + 8 * MAX_BATCHES;

    /// As in guest memory; checks nothing.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        Self {
            count: word(0),
            empty_cycles: word(1),
            cycles: core::array::from_fn(|batch| word(2 + batch)),
        }
    }

    /// The times; `count` is not trusted.
    #[must_use]
    pub fn timed(&self) -> &[u64] {
        let claimed = usize::try_from(self.count).unwrap_or(MAX_BATCHES);
        &self.cycles[..claimed.min(MAX_BATCHES)]
    }

    /// Adds a batch; one too many is left out.
    pub fn add(&mut self, cycles: u64) {
        let place = usize::try_from(self.count).unwrap_or(MAX_BATCHES);
        if let Some(to) = self.cycles.get_mut(place) {
            *to = cycles;
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_kept_up_to_the_limit() {
        let mut batches = Batches::from_bytes(&[0; Batches::BYTES]);
        for cycles in 0..MAX_BATCHES as u64 + 2 {
            batches.add(cycles);
        }
        assert_eq!(batches.timed().len(), MAX_BATCHES);
        assert_eq!(batches.timed()[..2], [0, 1]);
    }

    #[test]
    fn the_count_is_not_trusted() {
        let batches = Batches::from_bytes(&[0xff; Batches::BYTES]);
        assert_eq!(batches.timed(), [u64::MAX; MAX_BATCHES]);
    }
}
