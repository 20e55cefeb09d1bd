//! Interprets a KVM exit. Pure: no ioctl, no memory, no registers.

use abi::{CALL_PORT, Call, UnknownNumber};
use kvm_ioctls::VcpuExit;

/// What to do after an exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// The guest made a call: read the mailbox.
    Call(Call),
    /// Enter the guest again, unless the run is to stop.
    Resume,
    /// The run has failed.
    Fail(Failure),
}

/// Why a run has failed, without the registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Shutdown,
    Outside { gpa: u64, write: bool },
    Internal,
    Entry { reason: u64 },
    Port { port: u16, write: bool },
    UnknownCall(UnknownNumber),
    Unexpected(String),
}

/// What to do after `exit`.
pub(super) fn decide(exit: &VcpuExit<'_>) -> Action {
    let failure = match exit {
        VcpuExit::IoOut(CALL_PORT, data) => return call(data),
        VcpuExit::Intr => return Action::Resume,
        VcpuExit::IoOut(port, _) => Failure::Port {
            port: *port,
            write: true,
        },
        VcpuExit::IoIn(port, _) => Failure::Port {
            port: *port,
            write: false,
        },
        VcpuExit::MmioWrite(gpa, _) => Failure::Outside {
            gpa: *gpa,
            write: true,
        },
        VcpuExit::MmioRead(gpa, _) => Failure::Outside {
            gpa: *gpa,
            write: false,
        },
        VcpuExit::Shutdown => Failure::Shutdown,
        VcpuExit::InternalError => Failure::Internal,
        VcpuExit::FailEntry(reason, _cpu) => Failure::Entry { reason: *reason },
        VcpuExit::Hlt => Failure::Unexpected("the guest halted before it was done".into()),
        VcpuExit::SystemEvent(kind, _) => Failure::Unexpected(format!("system event {kind}")),
        VcpuExit::MemoryFault { gpa, .. } => {
            Failure::Unexpected(format!("memory fault at guest-physical address {gpa:#x}"))
        }
        VcpuExit::Unsupported(reason) => Failure::Unexpected(format!("exit reason {reason}")),
        other => Failure::Unexpected(format!("{other:?}")),
    };
    Action::Fail(failure)
}

/// A write of 32 bits to the call port.
fn call(data: &[u8]) -> Action {
    let Ok(bytes) = data.try_into() else {
        let what = format!("a write of {} bytes to the call port", data.len());
        return Action::Fail(Failure::Unexpected(what));
    };
    match Call::try_from(u32::from_le_bytes(bytes)) {
        Ok(call) => Action::Call(call),
        Err(error) => Action::Fail(Failure::UnknownCall(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(exit: VcpuExit<'_>) -> Failure {
        match decide(&exit) {
            Action::Fail(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn calls_are_32_bits_and_known() {
        for &call in Call::ALL {
            let data = call.number().to_le_bytes();
            assert_eq!(
                decide(&VcpuExit::IoOut(CALL_PORT, &data)),
                Action::Call(call)
            );
        }
        let unknown = fail(VcpuExit::IoOut(CALL_PORT, &[0; 4]));
        assert!(matches!(
            unknown,
            Failure::UnknownCall(UnknownNumber { found: 0, .. })
        ));
        for length in [0, 1, 2, 8, 4096] {
            let many = fail(VcpuExit::IoOut(CALL_PORT, &vec![1; length]));
            assert!(matches!(many, Failure::Unexpected(_)), "{length} bytes");
        }
    }

    #[test]
    fn an_interrupted_run_resumes() {
        assert_eq!(decide(&VcpuExit::Intr), Action::Resume);
    }

    #[test]
    fn accesses_to_other_ports_and_memory_fail() {
        assert_eq!(
            fail(VcpuExit::IoOut(0x80, &[1])),
            Failure::Port {
                port: 0x80,
                write: true
            }
        );
        assert_eq!(
            fail(VcpuExit::IoIn(CALL_PORT, &mut [0])),
            Failure::Port {
                port: CALL_PORT,
                write: false
            }
        );
        let gpa = u64::MAX;
        assert_eq!(
            fail(VcpuExit::MmioWrite(gpa, &[1])),
            Failure::Outside { gpa, write: true }
        );
        assert_eq!(
            fail(VcpuExit::MmioRead(0, &mut [0])),
            Failure::Outside {
                gpa: 0,
                write: false
            }
        );
    }

    #[test]
    fn each_exit_has_its_failure() {
        assert_eq!(fail(VcpuExit::Shutdown), Failure::Shutdown);
        assert_eq!(fail(VcpuExit::InternalError), Failure::Internal);
        assert_eq!(
            fail(VcpuExit::FailEntry(7, 0)),
            Failure::Entry { reason: 7 }
        );
        for exit in [
            VcpuExit::Hlt,
            VcpuExit::Unknown,
            VcpuExit::Unsupported(99),
            VcpuExit::SystemEvent(1, &[2]),
            VcpuExit::MemoryFault {
                flags: 0,
                gpa: 1,
                size: 2,
            },
        ] {
            assert!(matches!(fail(exit), Failure::Unexpected(_)));
        }
    }
}
