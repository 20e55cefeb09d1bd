//! The errors of the VMM, and what to do about them.

use std::io;
use std::time::Duration;

use abi::{Phase, ResultCode, UnknownNumber};
use kvm_ioctls::Error as Errno;
use thiserror::Error;

use super::hooks::HookError;
use super::regs::Regs;

/// An error of the host, the guest or the hooks.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VmmError {
    /// `/dev/kvm` does not exist.
    #[error(
        "/dev/kvm does not exist: does this kernel have KVM, and is its vendor module loaded \
         (modprobe kvm_intel or kvm_amd)?"
    )]
    NoKvm,
    /// This user may not open `/dev/kvm`.
    #[error(
        "no permission to open /dev/kvm: run as root, or join the group that owns it \
         (usually `kvm`)"
    )]
    KvmPermission,
    /// `/dev/kvm` could not be opened for another reason.
    #[error("cannot open /dev/kvm")]
    OpenKvm(#[source] Errno),
    /// Not the stable KVM API.
    #[error("KVM_GET_API_VERSION returned {found}, not 12")]
    ApiVersion {
        /// The version.
        found: i32,
    },
    /// `KVM_CREATE_VM`.
    #[error("KVM_CREATE_VM failed (does another hypervisor hold the CPU?)")]
    CreateVm(#[source] Errno),
    /// `KVM_SET_TSS_ADDR`.
    #[error("KVM_SET_TSS_ADDR failed")]
    SetTssAddr(#[source] Errno),
    /// Reserving guest memory.
    #[error(
        "cannot reserve {bytes} bytes of guest memory (check `ulimit -v` and free memory, or use \
         fewer pages)"
    )]
    ReserveMemory {
        /// Requested bytes.
        bytes: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// `madvise(MADV_HUGEPAGE)` or `madvise(MADV_NOHUGEPAGE)` on guest memory.
    #[error("madvise failed to allow or forbid huge pages in guest memory")]
    HugePages(#[source] io::Error),
    /// The host's part of a plan is inconsistent, or does not fit the guest's memory.
    #[error("the workload's plan for the host cannot be carried out: {what}")]
    Plan {
        /// What is wrong.
        what: String,
    },
    /// `KVM_SET_USER_MEMORY_REGION`.
    #[error(
        "KVM_SET_USER_MEMORY_REGION failed for slot {slot}: {bytes} bytes at {gpa:#x}, flags \
         {flags:#x}"
    )]
    SetMemory {
        /// Slot number.
        slot: u16,
        /// Guest-physical address.
        gpa: u64,
        /// Size in bytes; 0 to delete it.
        bytes: u64,
        /// `KVM_MEM_*`.
        flags: u32,
        /// The cause.
        #[source]
        source: Errno,
    },
    /// `KVM_SET_NR_MMU_PAGES`.
    #[error(
        "KVM_SET_NR_MMU_PAGES refused {pages} shadow pages (64 is the minimum, and kernels that \
         dropped this ioctl cannot limit them)"
    )]
    SetMmuPages {
        /// Requested pages.
        pages: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// KVM has no system management mode.
    #[error("KVM has no system management mode here (KVM_CAP_X86_SMM; CONFIG_KVM_SMM builds it)")]
    NoSmm,
    /// `KVM_SMI`.
    #[error("KVM_SMI failed")]
    Smi(#[source] Errno),
    /// The guest needs what KVM does not offer it.
    #[error("KVM offers guests no {name} on this host (KVM_GET_SUPPORTED_CPUID)")]
    NoFeature {
        /// The CPU's feature.
        name: &'static str,
    },
    /// `KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2` exists, but cannot be enabled.
    #[error("KVM_ENABLE_CAP failed for KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2")]
    ManualDirtyLog(#[source] Errno),
    /// An actor's call failed.
    #[error("while the host disturbed the guest: {call} failed for {frames} frames at {gpa:#x}")]
    Actor {
        /// The call.
        call: &'static str,
        /// First guest-physical byte.
        gpa: u64,
        /// Frames of 4 KiB.
        frames: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Reading which pages are allocated.
    #[error("cannot read /proc/self/pagemap, which shows the allocated pages of guest memory")]
    Pagemap(#[source] io::Error),
    /// KVM's dirty log is incomplete.
    #[error(
        "KVM's dirty log of slot {slot} misses {missed} of {changed} frames that the guest wrote, \
         the first at {gpa:#x}"
    )]
    DirtyLogMissed {
        /// Slot number.
        slot: u16,
        /// The first missing frame.
        gpa: u64,
        /// Number of missing frames.
        missed: u64,
        /// Number of frames whose content changed.
        changed: u64,
    },
    /// The hook for acts failed.
    #[error("while recording what the host did to the guest")]
    Acted(#[source] HookError),
    /// An access of the VMM to guest memory.
    #[error("cannot access {bytes} bytes of guest memory at {gpa:#x}")]
    GuestMemory {
        /// Guest-physical address.
        gpa: u64,
        /// Length.
        bytes: usize,
        /// The cause.
        #[source]
        source: vm_memory::GuestMemoryError,
    },
    /// The image is not the one of the build script.
    #[error("the guest image cannot be used: {what} (rebuild it: cargo clean -p workloads)")]
    Image {
        /// What is wrong with it.
        what: String,
    },
    /// `KVM_CREATE_VCPU`.
    #[error("KVM_CREATE_VCPU failed")]
    CreateVcpu(#[source] Errno),
    /// `KVM_GET_SUPPORTED_CPUID`.
    #[error("KVM_GET_SUPPORTED_CPUID failed")]
    GetCpuid(#[source] Errno),
    /// `KVM_SET_CPUID2`.
    #[error("KVM_SET_CPUID2 failed")]
    SetCpuid(#[source] Errno),
    /// `KVM_GET_SREGS`.
    #[error("KVM_GET_SREGS failed")]
    GetSregs(#[source] Errno),
    /// `KVM_SET_SREGS`.
    #[error("KVM_SET_SREGS refused the boot state (long mode, paging on)")]
    SetSregs(#[source] Errno),
    /// `KVM_GET_REGS`.
    #[error("KVM_GET_REGS failed")]
    GetRegs(#[source] Errno),
    /// `KVM_SET_REGS`.
    #[error("KVM_SET_REGS failed")]
    SetRegs(#[source] Errno),
    /// `KVM_GET_STATS_FD`.
    #[error("KVM_GET_STATS_FD failed (it needs Linux 5.14 or later)")]
    GetStatsFd(#[source] io::Error),
    /// Reading a statistics file.
    #[error("cannot read KVM's statistics")]
    ReadStats(#[source] io::Error),
    /// The statistics file does not follow the kernel's documentation.
    #[error("KVM's statistics file is malformed: {what}")]
    StatsFormat {
        /// What is wrong with it.
        what: String,
    },
    /// The signal that makes a vCPU leave the guest.
    #[error("cannot install the handler of the signal that stops the guest")]
    Signal(#[source] io::Error),
    /// Starting a thread.
    #[error("cannot start a thread for a vCPU or an actor")]
    Thread(#[source] io::Error),
    /// Confining the vCPU's thread.
    #[error("cannot confine the vCPU's thread (does this kernel have seccomp?)")]
    Seccomp(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// `KVM_RUN`.
    #[error("KVM_RUN failed\n{regs}")]
    Run {
        /// The cause.
        #[source]
        source: Errno,
        /// Registers of the vCPU.
        regs: Box<Regs>,
    },
    /// The hook for marks failed.
    #[error("at the guest's mark '{phase}'")]
    Hook {
        /// The phase that began.
        phase: Phase,
        /// The hook's error.
        #[source]
        source: HookError,
    },
    /// The guest never stops marking phases.
    #[error("the guest marked more than {limit} phases; no workload has that many")]
    TooManyMarks {
        /// Maximum number.
        limit: usize,
    },
    /// The start hook, or the first stop hook, failed.
    #[error("before the guest's first instruction")]
    Start(#[source] HookError),
    /// The hook for a stopped world failed.
    #[error("while the guest was stopped")]
    Stopped(#[source] HookError),

    /// The vCPU shut down: an exception could not be delivered. On AMD, KVM resets the vCPU before
    /// it reports this, and `regs` are those after the reset (RIP 0xfff0).
    #[error("the guest triple-faulted\n{regs}")]
    TripleFault {
        /// Registers of the vCPU.
        regs: Box<Regs>,
    },
    /// An access to a guest-physical address without memory.
    #[error(
        "the guest {} guest-physical address {gpa:#x}, which is outside its memory\n{regs}",
        accessed(*write)
    )]
    OutsideMemory {
        /// The address.
        gpa: u64,
        /// A store; otherwise a load.
        write: bool,
        /// Registers of the vCPU.
        regs: Box<Regs>,
    },
    /// KVM gave up, usually on an instruction that it cannot emulate.
    #[error("KVM internal error {suberror} ({})\n{regs}", suberror_name(*suberror))]
    InternalError {
        /// `KVM_INTERNAL_ERROR_*`.
        suberror: u32,
        /// Registers of the vCPU.
        regs: Box<Regs>,
    },
    /// The CPU refused to enter the guest.
    #[error("the CPU refused to enter the guest, hardware reason {reason:#x}\n{regs}")]
    FailEntry {
        /// The hardware's reason.
        reason: u64,
        /// Registers of the vCPU.
        regs: Box<Regs>,
    },
    /// A port that this machine does not have.
    #[error(
        "the guest {} port {port:#x}, which does not exist\n{regs}",
        accessed(*write)
    )]
    UnknownPort {
        /// The port.
        port: u16,
        /// `out`; otherwise `in`.
        write: bool,
        /// Registers of the vCPU.
        regs: Box<Regs>,
    },
    /// Any other exit.
    #[error("unexpected KVM exit: {exit}\n{regs}")]
    UnexpectedExit {
        /// The exit, as text.
        exit: String,
        /// Registers of the vCPU.
        regs: Box<Regs>,
    },
    /// The guest was not done when its time was up.
    #[error("the guest was not done after {after:?}\n{regs}")]
    Timeout {
        /// The time limit.
        after: Duration,
        /// Registers of the vCPU.
        regs: Box<Regs>,
    },
    /// Memory that an actor took away could not be put back.
    #[error("guest memory that the host moved or protected could not be put back")]
    MemoryLost,
    /// The caller set the cancel flag.
    #[error("cancelled")]
    Cancelled,

    /// A call with a number that does not exist.
    #[error("the guest made an unknown call")]
    UnknownCall(#[source] UnknownNumber),
    /// A mailbox that a guest of this ABI cannot have written.
    #[error("the guest's mailbox is malformed: {what}")]
    BadMailbox {
        /// What is wrong with it.
        what: String,
    },
    /// An exception that the guest kernel does not handle.
    #[error(
        "the guest kernel got exception {vector} (error code {error_code:#x}) at rip {rip:#x}, cr2 \
         {cr2:#x}\n{regs}"
    )]
    GuestException {
        /// Vector.
        vector: u64,
        /// Error code, 0 where the exception has none.
        error_code: u64,
        /// Address of the instruction.
        rip: u64,
        /// CR2, which only vector 14 sets.
        cr2: u64,
        /// Where the guest was when it reported.
        regs: Box<Regs>,
    },
    /// The guest's own code panicked.
    #[error("the guest panicked: {text}")]
    GuestPanic {
        /// Its message, with control characters escaped.
        text: String,
    },
    /// The check found a page that does not hold the value that was written.
    #[error(
        "wrong memory contents ({code}): page {first_bad_page} holds {found:#x}, not \
         {expected:#x}; {bad_pages} of {pages} pages are wrong"
    )]
    WrongResult {
        /// Which check failed.
        code: ResultCode,
        /// Page of the work range.
        first_bad_page: u64,
        /// The value found.
        found: u64,
        /// The value expected.
        expected: u64,
        /// Number of wrong pages.
        bad_pages: u64,
        /// Number of checked pages.
        pages: u64,
    },
    /// An access was refused that the guest's tables allow, or the other way round.
    #[error(
        "wrong access: an access to page {page} was {found}, not {expected}; {bad_pages} of \
         {pages} checks failed"
    )]
    WrongAccess {
        /// Page of the work range.
        page: u64,
        /// The result of the first wrong access.
        found: String,
        /// The expected result.
        expected: String,
        /// Number of failed checks.
        bad_pages: u64,
        /// Number of checks.
        pages: u64,
    },
    /// The guest refused to start, or ran out of frames.
    #[error("the guest gave up: {code}")]
    GuestRefused {
        /// Why.
        code: ResultCode,
    },
}

impl VmmError {
    /// Distinguishes why `/dev/kvm` could not be opened.
    pub(super) fn no_kvm(error: Errno) -> Self {
        match error.errno() {
            libc::ENOENT | libc::ENXIO | libc::ENODEV => Self::NoKvm,
            libc::EACCES | libc::EPERM => Self::KvmPermission,
            _ => Self::OpenKvm(error),
        }
    }

    /// A plan that cannot be carried out.
    pub(super) fn plan(what: String) -> Self {
        Self::Plan { what }
    }

    /// Whether this host, or this user on it, cannot run VMs at all.
    #[must_use]
    pub fn host_cannot(&self) -> bool {
        matches!(
            self,
            Self::NoKvm
                | Self::KvmPermission
                | Self::OpenKvm(_)
                | Self::ApiVersion { .. }
                | Self::NoSmm
                | Self::NoFeature { .. }
        )
    }
}

fn accessed(write: bool) -> &'static str {
    if write { "wrote to" } else { "read from" }
}

fn suberror_name(suberror: u32) -> &'static str {
    match suberror {
        1 => "cannot emulate an instruction",
        2 => "exceptions at the same time",
        3 => "exit while delivering an event",
        4 => "unexpected exit reason",
        _ => "unknown suberror",
    }
}
