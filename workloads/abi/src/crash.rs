//! Fault injection: the hidden workload `crash`.

use crate::number::numbered;

numbered! {
    /// A kind of misbehaviour, for which the VMM must report an error.
    pub enum CrashKind {
        /// An exception with no IDT: the vCPU shuts down.
        Triple = 1 => "triple",
        /// CPL3 never ends.
        Loop = 2 => "loop",
        /// CPL0 never ends.
        KernelLoop = 3 => "kernel-loop",
        /// CPL3 stores to a guest-physical address beyond memory.
        Outside = 4 => "outside",
        /// CPL3 panics.
        Panic = 5 => "panic",
        /// CPL3 divides by zero.
        Exception = 6 => "exception",
        /// CPL0 writes to a port that does not exist.
        Port = 7 => "port",
        /// A call number that does not exist.
        BadCall = 8 => "bad-call",
        /// A mark with an unknown phase and a mailbox full of ones.
        BadMailbox = 9 => "bad-mailbox",
        /// `hlt` before the work is done.
        Halt = 10 => "halt",
        /// The check finds a wrong value.
        WrongValue = 11 => "wrong-value",
        /// CPL0 reads from a port that does not exist.
        PortRead = 12 => "port-read",
    }
}
