//! How a guest calls the VMM.

use crate::number::numbered;

/// I/O port to which the guest kernel writes the number of a [`Call`], as 32 bits.
pub const CALL_PORT: u16 = 0x5348;

/// Upper half of RAX in a CPL3 hypercall (`ud2`); the lower half is the [`Call`].
///
/// `int n` and `syscall` do not work on a KVM-PVM host, so CPL3 enters the guest kernel with `ud2`.
/// Compilers emit `ud2` for unreachable code too: the magic distinguishes the two.
pub const HYPERCALL_MAGIC: u64 = 0x5348_4457_0000_0000;

numbered! {
    /// A call of the guest to the VMM. The guest fills the mailbox before.
    pub enum Call {
        /// A phase begins: `phase` and `guest_tsc` are valid. Returns.
        Mark = 1 => "mark",
        /// The work ended: `code` and `numbers` are valid. Never returns.
        Done = 2 => "done",
        /// An exception that the guest kernel does not handle: `numbers` hold vector, error code,
        /// RIP, CR2, CS and RSP. Never returns.
        Exception = 3 => "exception",
        /// The guest's own code panicked: `text` is valid. Never returns.
        Panic = 4 => "panic",
        /// Asks for a system management interrupt (SMI). Returns once it was handled.
        Smi = 5 => "smi",
    }
}

numbered! {
    /// A phase of a guest's run. `start` is the first and `done` the last; a workload may skip
    /// others.
    pub enum Phase {
        /// The guest kernel is up.
        Start = 1 => "start",
        /// The guest kernel fills its page tables.
        Map = 2 => "map",
        /// CPL3 accesses each page of the work range for the first time.
        Touch = 3 => "touch",
        /// CPL3 stores to each page, after a pass that only loaded.
        Write = 4 => "write",
        /// CPL3 loads each page again and compares.
        Check = 5 => "check",
        /// CPL3 works on the mapped pages, and checks them meanwhile.
        Work = 7 => "work",
        /// The work ended; sent with [`Call::Done`].
        Done = 6 => "done",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_convert_both_ways_and_unknown_ones_are_refused() {
        for &phase in Phase::ALL {
            assert_eq!(Phase::try_from(phase.number()), Ok(phase));
            assert_eq!(Phase::from_name(phase.name()), Some(phase));
        }
        let error = Phase::try_from(0).unwrap_err();
        assert_eq!(std::format!("{error}"), "0 is not a number of `Phase`");
        assert!(Call::try_from(u32::MAX).is_err());
    }
}
