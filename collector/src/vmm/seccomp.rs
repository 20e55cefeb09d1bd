//! Confines a thread to the system calls that running a guest needs.
//!
//! The vCPU's thread is the one that a hostile guest can reach. After [`confine_thread`] it can run
//! the guest, use memory and locks, read and write open files, use BPF maps and run loaded BPF
//! programs (hooks do), and end. It cannot open a file, start a thread or a process, signal another
//! process, make memory executable, or use the network. Other calls fail with `EPERM`, so that a
//! library whose call is optional continues without it.

use std::collections::BTreeMap;

use kvm_bindings::KVMIO;
use libc::c_long;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

/// Allowed with any arguments.
const ALLOWED: &[c_long] = &[
    // Open files.
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Locks, the end of a thread, signals.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_membarrier,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // Ids and times.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getcpu,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
];

/// `bpf()` commands: map elements (look up, update, delete, next key), run a program.
const BPF_COMMANDS: &[u64] = &[1, 2, 3, 4, 10];

/// `PROT_EXEC`, as the filter compares it.
const PROT_EXEC: u64 = libc::PROT_EXEC.cast_unsigned() as u64;

/// The bits of an ioctl number that identify the subsystem.
const IOCTL_TYPE: u64 = 0xff00;

/// Confines the calling thread for good.
pub(super) fn confine_thread() -> Result<(), Error> {
    apply_filter(&program()?)
}

fn program() -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        ALLOWED.iter().map(|&call| (call, Vec::new())).collect();
    let kvm = argument(1, SeccompCmpOp::MaskedEq(IOCTL_TYPE), u64::from(KVMIO) << 8)?;
    rules.insert(libc::SYS_ioctl, vec![kvm]);
    let bpf: Result<_, Error> = BPF_COMMANDS
        .iter()
        .map(|&command| argument(0, SeccompCmpOp::Eq, command))
        .collect();
    rules.insert(libc::SYS_bpf, bpf?);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let not_executable = argument(2, SeccompCmpOp::MaskedEq(PROT_EXEC), 0)?;
        rules.insert(call, vec![not_executable]);
    }
    let own_process = u64::from(std::process::id());
    rules.insert(
        libc::SYS_tgkill,
        vec![argument(0, SeccompCmpOp::Eq, own_process)?],
    );

    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    Ok(filter.try_into()?)
}

fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::ErrorKind;
    use std::os::fd::AsRawFd;
    use std::thread;
    use std::time::Duration;

    /// Runs `body` on a new, confined thread.
    fn confined<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = thread::spawn(|| {
            confine_thread().expect("seccomp works here");
            body()
        });
        thread.join().expect("the thread does not panic")
    }

    #[test]
    fn a_confined_thread_cannot_open_files() {
        let error = confined(|| File::open("/dev/null").map(drop).unwrap_err());
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_confined_thread_cannot_start_others() {
        assert!(confined(|| thread::Builder::new().spawn(|| ()).is_err()));
    }

    #[test]
    fn a_confined_thread_gets_no_executable_memory() {
        let map = |protection| {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // SAFETY: a new anonymous mapping affects no other memory.
            let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
            at != libc::MAP_FAILED
        };
        assert_eq!(
            confined(move || [map(libc::PROT_READ), map(libc::PROT_EXEC)]),
            [true, false]
        );
    }

    #[test]
    fn a_confined_thread_signals_its_own_process_only() {
        let signal = |process: i32| {
            // SAFETY: signal 0 is only checked, never sent.
            unsafe { libc::syscall(libc::SYS_tgkill, process, process, 0) }
        };
        let own = std::process::id().cast_signed();
        let results = confined(move || [signal(own), signal(own.max(2) - 1)]);
        assert_eq!(results, [0, -1]);
    }

    #[test]
    fn only_kvm_ioctls_and_bpf_runs_pass() {
        let file = File::open("/dev/null").unwrap();
        let errno =
            |result: c_long| (result < 0).then(|| std::io::Error::last_os_error().raw_os_error());
        let [tcgets, kvm, load, run] = confined(move || {
            let fd = file.as_raw_fd();
            // SAFETY: both requests fail on /dev/null, whatever the argument.
            let ioctl =
                |request: u64| errno(unsafe { libc::syscall(libc::SYS_ioctl, fd, request, 0) });
            // SAFETY: no attributes: the commands fail and touch nothing.
            let bpf = |command: u64| errno(unsafe { libc::syscall(libc::SYS_bpf, command, 0, 0) });
            [ioctl(0x5401), ioctl(0xae80), bpf(5), bpf(10)]
        });
        assert_eq!(tcgets, Some(Some(libc::EPERM)));
        assert_eq!(
            kvm,
            Some(Some(libc::ENOTTY)),
            "the file refuses it, not the filter"
        );
        assert_eq!(load, Some(Some(libc::EPERM)));
        assert_ne!(run, Some(Some(libc::EPERM)));
    }

    #[test]
    fn hooks_can_use_memory_and_channels() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let sum: u64 = confined(move || {
            let many: Vec<u64> = (0..1_000_000).collect();
            thread::sleep(Duration::from_millis(1));
            sender.send(many.len()).expect("the test listens");
            many.iter().sum()
        });
        assert_eq!((receiver.recv(), sum), (Ok(1_000_000), 499_999_500_000));
    }
}
