//! Everything that can go wrong with a VM, and what to do about it.

use std::io;
use std::time::Duration;

use abi::{Phase, ResultCode, UnknownNumber};
use kvm_ioctls::Error as Errno;
use thiserror::Error;

use super::hooks::HookError;
use super::regs::Regs;

/// Error of the VMM: the host's, the guest's or the hooks'.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VmmError {
    /// `/dev/kvm` is not there.
    #[error(
        "/dev/kvm does not exist: is KVM in this kernel, and its vendor module loaded (modprobe kvm_intel or kvm_amd)?"
    )]
    NoKvm,
    /// `/dev/kvm` is there, but not for this user.
    #[error(
        "no permission to open /dev/kvm: run as root, or join the group that owns it (usually `kvm`)"
    )]
    KvmPermission,
    /// `/dev/kvm` could not be opened for another reason.
    #[error("cannot open /dev/kvm")]
    OpenKvm(#[source] Errno),
    /// Not the KVM interface of the last 15 years.
    #[error("KVM_GET_API_VERSION answered {found}, not 12")]
    ApiVersion {
        /// The answer.
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
        "cannot reserve {bytes} bytes of guest memory (check `ulimit -v` and free memory, or use fewer pages)"
    )]
    ReserveMemory {
        /// Bytes asked for.
        bytes: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// `madvise(MADV_HUGEPAGE)` or `madvise(MADV_NOHUGEPAGE)` on guest memory.
    #[error("cannot ask for huge pages in guest memory, or forbid them (madvise)")]
    HugePages(#[source] io::Error),
    /// The host's part of a plan contradicts itself or the guest's memory.
    #[error("the workload's plan for the host cannot be carried out: {what}")]
    Plan {
        /// What does not fit.
        what: String,
    },
    /// `KVM_SET_USER_MEMORY_REGION`.
    #[error(
        "KVM_SET_USER_MEMORY_REGION failed for slot {slot}: {bytes} bytes at {gpa:#x}, flags {flags:#x}"
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
        "KVM_SET_NR_MMU_PAGES refused {pages} shadow pages (kernels that dropped this call cannot bound them, and none takes fewer than 64)"
    )]
    SetMmuPages {
        /// Pages asked for.
        pages: u64,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// `KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2` is there, but cannot be switched on.
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
    /// Reading which pages are there.
    #[error("cannot read /proc/self/pagemap, which says what guest memory holds")]
    Pagemap(#[source] io::Error),
    /// KVM's dirty log is not the truth.
    #[error(
        "KVM's dirty log of slot {slot} left out {missed} of {changed} frames that the guest wrote, the first at {gpa:#x}"
    )]
    DirtyLogMissed {
        /// Slot number.
        slot: u16,
        /// First such frame.
        gpa: u64,
        /// How many there are.
        missed: u64,
        /// Frames whose content changed.
        changed: u64,
    },
    /// The act hook refused to go on.
    #[error("while recording what the host did to the guest")]
    Acted(#[source] HookError),
    /// The boot state or the image does not fit into guest memory.
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
    /// The image is not what the build script builds.
    #[error("the guest image is unusable: {what} (rebuild it: cargo clean -p workloads)")]
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
    /// The signal that gets a vCPU out of the guest.
    #[error("cannot set the handler of the signal that stops the guest")]
    Signal(#[source] io::Error),
    /// Starting a thread.
    #[error("cannot start a thread for a vCPU or an actor")]
    Thread(#[source] io::Error),
    /// Confining the vCPU's thread.
    #[error("cannot confine the vCPU's thread (is seccomp in this kernel?)")]
    Seccomp(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// `KVM_RUN`.
    #[error("KVM_RUN failed\n{regs}")]
    Run {
        /// The cause.
        #[source]
        source: Errno,
        /// Where the guest stood.
        regs: Box<Regs>,
    },
    /// A hook refused to go on.
    #[error("at the guest's mark '{phase}'")]
    Hook {
        /// The phase that began.
        phase: Phase,
        /// The hook's reason.
        #[source]
        source: HookError,
    },
    /// The guest marks phases without end.
    #[error("the guest marked more than {limit} phases; no workload has that many")]
    TooManyMarks {
        /// How many there may be.
        limit: usize,
    },
    /// The start hook refused to go on.
    #[error("before the guest's first instruction")]
    Start(#[source] HookError),
    /// The stop hook refused to go on.
    #[error("while the guest was stopped")]
    Stopped(#[source] HookError),

    /// The vCPU shut down: an exception that could not be delivered. On AMD, KVM resets the
    /// vCPU before it says so, and `regs` are those after the reset (RIP 0xfff0).
    #[error("the guest triple-faulted\n{regs}")]
    TripleFault {
        /// Where the guest stood.
        regs: Box<Regs>,
    },
    /// An access to a guest-physical address that is no memory.
    #[error("the guest {} guest-physical address {gpa:#x}, which is outside its memory\n{regs}", if *write { "wrote to" } else { "read from" })]
    OutsideMemory {
        /// The address.
        gpa: u64,
        /// A store, not a load.
        write: bool,
        /// Where the guest stood.
        regs: Box<Regs>,
    },
    /// KVM gave up, usually on an instruction that it cannot emulate.
    #[error("KVM internal error {suberror} ({})\n{regs}", suberror_name(*suberror))]
    InternalError {
        /// `KVM_INTERNAL_ERROR_*`.
        suberror: u32,
        /// Where the guest stood.
        regs: Box<Regs>,
    },
    /// The CPU refused to enter the guest.
    #[error("the CPU refused to enter the guest, hardware reason {reason:#x}\n{regs}")]
    FailEntry {
        /// As the hardware says it.
        reason: u64,
        /// Where the guest stood.
        regs: Box<Regs>,
    },
    /// A port that this machine does not have.
    #[error("the guest {} port {port:#x}, which does not exist\n{regs}", if *write { "wrote to" } else { "read from" })]
    UnknownPort {
        /// The port.
        port: u16,
        /// `out`, not `in`.
        write: bool,
        /// Where the guest stood.
        regs: Box<Regs>,
    },
    /// Any other exit.
    #[error("unexpected KVM exit: {exit}\n{regs}")]
    UnexpectedExit {
        /// The exit, in words.
        exit: String,
        /// Where the guest stood.
        regs: Box<Regs>,
    },
    /// The guest was still running when its time was up.
    #[error("the guest was not done after {after:?}\n{regs}")]
    Timeout {
        /// The time it was given.
        after: Duration,
        /// Where the guest stood.
        regs: Box<Regs>,
    },
    /// What an actor took away could not be put back.
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
        "the guest kernel met exception {vector} (error code {error_code:#x}) at rip {rip:#x}, cr2 {cr2:#x}\n{regs}"
    )]
    GuestException {
        /// Vector.
        vector: u64,
        /// Error code, 0 where the exception has none.
        error_code: u64,
        /// Instruction.
        rip: u64,
        /// CR2, of meaning for vector 14 only.
        cr2: u64,
        /// Where the guest stood when it reported.
        regs: Box<Regs>,
    },
    /// The guest's own code panicked.
    #[error("the guest panicked: {text}")]
    GuestPanic {
        /// What it said; control characters escaped.
        text: String,
    },
    /// The check pass found a page that does not hold what was written.
    #[error(
        "wrong memory contents ({code}): page {first_bad_page} holds {found:#x}, not {expected:#x}; {bad_pages} of {pages} pages are wrong"
    )]
    WrongResult {
        /// Which check failed.
        code: ResultCode,
        /// Page of the work range.
        first_bad_page: u64,
        /// What it held.
        found: u64,
        /// What it should hold.
        expected: u64,
        /// How many are wrong.
        bad_pages: u64,
        /// How many were checked.
        pages: u64,
    },
    /// The guest's tables allowed an access that was refused, or the other way round.
    #[error(
        "wrong access: to page {page} it was {found}, not {expected}; {bad_pages} of {pages} went wrong"
    )]
    WrongAccess {
        /// Page of the work range.
        page: u64,
        /// How the first wrong access went.
        found: String,
        /// How it should have gone.
        expected: String,
        /// How many went wrong.
        bad_pages: u64,
        /// How many were tried.
        pages: u64,
    },
    /// The guest refused to work.
    #[error("the guest gave up: {code}")]
    GuestRefused {
        /// Why.
        code: ResultCode,
    },
}

impl VmmError {
    /// Tells the ways apart in which `/dev/kvm` may fail to open.
    pub(super) fn no_kvm(error: Errno) -> Self {
        match error.errno() {
            libc::ENOENT | libc::ENXIO | libc::ENODEV => Self::NoKvm,
            libc::EACCES | libc::EPERM => Self::KvmPermission,
            _ => Self::OpenKvm(error),
        }
    }

    pub(super) fn plan(what: String) -> Self {
        Self::Plan { what }
    }

    /// Whether this host (or this user on it) cannot run VMs at all.
    #[must_use]
    pub fn host_cannot(&self) -> bool {
        matches!(
            self,
            Self::NoKvm | Self::KvmPermission | Self::OpenKvm(_) | Self::ApiVersion { .. }
        )
    }
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
