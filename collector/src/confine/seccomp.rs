//! System calls: what the process gives up, and the little that some of its threads need.
//!
//! A vCPU's thread is the one that a hostile guest can reach. It can run the guest, use memory and
//! locks, read and write open files, use BPF maps and run loaded BPF programs (hooks do), and end.
//! The drain only copies memory; the writer also makes files and reads BPF maps. None of them can
//! start a process, signal another one, make memory executable, or use the network, and only the
//! writer opens files and starts threads (those that compress). Other calls fail with `EPERM`, so
//! that a library whose call is optional continues without it.

use std::{collections::BTreeMap, io};

use kvm_bindings::KVMIO;
use libc::c_long;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter, apply_filter_all_threads, sock_filter,
};

/// The threads that have a filter of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thread {
    /// Runs a guest.
    Vcpu,
    /// Copies records out of the ring.
    Drain,
    /// Writes the trace.
    Writer,
}

/// Allowed to each of them, with any arguments.
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

/// Allowed to the writer too. Which files they reach is Landlock's and the file system's matter.
const FILES: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_ftruncate,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_prlimit64,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_stat,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    // The threads that compress: their stacks, their names.
    libc::SYS_clone3,
    libc::SYS_prctl,
];

/// Refused to the whole process: other programs and processes, the network, other users, namespaces
/// and mounts, the kernel's modules and settings, and ways around a filter.
const REFUSED: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_syslog,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_setup,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_personality,
    libc::SYS_modify_ldt,
];

/// `bpf()` commands: map elements (look up, update, delete, next key), run a program.
const BPF_OF_VCPU: &[u64] = &[1, 2, 3, 4, 10];
/// Look up, next key.
const BPF_OF_WRITER: &[u64] = &[1, 4];
/// As a vCPU's, and what a program has cost (`BPF_OBJ_GET_INFO_BY_FD`).
const BPF_OF_PROCESS: &[u64] = &[1, 2, 3, 4, 10, 15];

/// `PROT_EXEC`, as the filter compares it.
const PROT_EXEC: u64 = libc::PROT_EXEC.cast_unsigned() as u64;
/// `CLONE_THREAD`, the same.
const CLONE_THREAD: u64 = libc::CLONE_THREAD.cast_unsigned() as u64;

/// The bits of an ioctl number that identify the subsystem.
const IOCTL_TYPE: u64 = 0xff00;
/// From this number on, calls are those of x32, of which no filter knows anything.
const X32: u32 = 0x4000_0000;

/// Confines the calling thread for good.
pub fn thread(kind: Thread) -> io::Result<()> {
    let filter = allowing(kind).map_err(io::Error::other)?;
    apply_filter(&filter).map_err(io::Error::other)
}

/// Confines all threads of the process for good.
pub fn process() -> io::Result<()> {
    for filter in [refusing(), without_clone3()] {
        let filter = without_x32(filter.map_err(io::Error::other)?);
        apply_filter_all_threads(&filter).map_err(io::Error::other)?;
    }
    Ok(())
}

/// Only what a kind of thread needs.
fn allowing(kind: Thread) -> Result<BpfProgram, Error> {
    let any = |calls: &[c_long]| calls.iter().map(|&call| (call, Vec::new())).collect();
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = any(ALLOWED);
    let bpf = match kind {
        Thread::Vcpu => BPF_OF_VCPU,
        Thread::Drain => &[],
        Thread::Writer => BPF_OF_WRITER,
    };
    let bpf: Result<Vec<_>, Error> = bpf
        .iter()
        .map(|&command| argument(0, SeccompCmpOp::Eq, command))
        .collect();
    let bpf = bpf?;
    if !bpf.is_empty() {
        rules.insert(libc::SYS_bpf, bpf);
    }
    if kind == Thread::Vcpu {
        let kvm = argument(1, SeccompCmpOp::MaskedEq(IOCTL_TYPE), u64::from(KVMIO) << 8)?;
        rules.insert(libc::SYS_ioctl, vec![kvm]);
    }
    if kind == Thread::Writer {
        rules.extend(any(FILES));
        let starts_thread = argument(0, SeccompCmpOp::MaskedEq(CLONE_THREAD), CLONE_THREAD)?;
        rules.insert(libc::SYS_clone, vec![starts_thread]);
    }
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let not_executable = argument(2, SeccompCmpOp::MaskedEq(PROT_EXEC), 0)?;
        rules.insert(call, vec![not_executable]);
    }
    let own_process = u64::from(std::process::id());
    rules.insert(
        libc::SYS_tgkill,
        vec![argument(0, SeccompCmpOp::Eq, own_process)?],
    );
    filter(
        rules,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        SeccompAction::Allow,
    )
}

/// All but what no recording needs.
fn refusing() -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> =
        REFUSED.iter().map(|&call| (call, Vec::new())).collect();
    let other_bpf: Result<Vec<_>, Error> = BPF_OF_PROCESS
        .iter()
        .map(|&command| condition(0, SeccompCmpOp::Ne, command))
        .collect();
    rules.insert(libc::SYS_bpf, vec![SeccompRule::new(other_bpf?)?]);
    for call in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        let executable = argument(2, SeccompCmpOp::MaskedEq(PROT_EXEC), PROT_EXEC)?;
        rules.insert(call, vec![executable]);
    }
    let starts_process = argument(0, SeccompCmpOp::MaskedEq(CLONE_THREAD), 0)?;
    rules.insert(libc::SYS_clone, vec![starts_process]);
    filter(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.cast_unsigned()),
    )
}

/// A filter cannot see whether `clone3` starts a thread or a process: as if the kernel had none, so
/// that the C library uses `clone`.
fn without_clone3() -> Result<BpfProgram, Error> {
    filter(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.cast_unsigned()),
    )
}

/// Refuses the calls of x32 before the filter sees their numbers.
fn without_x32(filter: BpfProgram) -> BpfProgram {
    let instruction = |code: u32, jt, jf, k| sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt,
        jf,
        k,
    };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let mut whole = vec![
        // `seccomp_data.nr` comes first.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, refuse),
    ];
    whole.extend(filter);
    whole
}

fn filter(
    rules: BTreeMap<c_long, Vec<SeccompRule>>,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, Error> {
    let filter = SeccompFilter::new(rules, others, these, TargetArch::x86_64)?;
    Ok(filter.try_into()?)
}

fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, Error> {
    Ok(SeccompRule::new(vec![condition(index, operator, value)?])?)
}

fn condition(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, Error> {
    Ok(SeccompCondition::new(
        index,
        SeccompCmpArgLen::Dword,
        operator,
        value,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::ErrorKind;
    use std::os::fd::AsRawFd;
    use std::thread;
    use std::time::Duration;

    /// Runs `body` on a new thread that is confined as a vCPU's.
    fn confined<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
        confined_as(Thread::Vcpu, body)
    }

    fn confined_as<T: Send + 'static>(
        kind: Thread,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let thread = thread::spawn(move || {
            super::thread(kind).expect("seccomp works here");
            body()
        });
        thread.join().expect("the thread does not panic")
    }

    #[test]
    fn the_drain_opens_nothing_and_the_writer_starts_only_threads() {
        let can = || {
            let opens = File::open("/dev/null").is_ok();
            let starts = thread::Builder::new().spawn(|| ()).is_ok();
            // SAFETY: a new socket, which ends with the process.
            let socket = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) } >= 0;
            [opens, starts, socket]
        };
        assert_eq!(confined_as(Thread::Drain, can), [false; 3]);
        let writes = || {
            // Like a kernel without `clone3`; the process's filters do that.
            let without = without_x32(without_clone3().expect("a filter"));
            apply_filter(&without).expect("seccomp works here");
        };
        let writer = thread::spawn(move || {
            writes();
            super::thread(Thread::Writer).expect("seccomp works here");
            can()
        });
        assert_eq!(writer.join().expect("no panic"), [true, true, false]);
    }

    /// On one thread: the other tests need what it refuses.
    #[test]
    fn the_process_starts_no_other_and_loads_nothing() {
        let refused = thread::spawn(|| {
            for filter in [refusing(), without_clone3()] {
                let filter = without_x32(filter.expect("a filter"));
                apply_filter(&filter).expect("seccomp works here");
            }
            let opens = File::open("/proc/self/status").is_ok();
            let starts = thread::Builder::new().spawn(|| ()).is_ok();
            assert!(opens && starts);
            let program = std::process::Command::new("true").status().is_err();
            let call = |number: c_long, first: u64| {
                // SAFETY: no argument is a valid address: what is not refused fails too.
                let result = unsafe { libc::syscall(number, first, 0, 0, 0, 0) };
                (result < 0).then(std::io::Error::last_os_error)
            };
            let errno = |number, first| call(number, first).and_then(|error| error.raw_os_error());
            let process = libc::SIGCHLD.cast_unsigned().into();
            let refused = [
                errno(libc::SYS_clone, process),
                errno(libc::SYS_bpf, 5),
                errno(libc::SYS_socket, 1),
                errno(libc::SYS_init_module, 0),
                errno(c_long::from(X32) + 1, 0),
            ];
            let allowed = [errno(libc::SYS_bpf, 1), errno(libc::SYS_clone3, 0)];
            (program, refused, allowed)
        });
        let (program, refused, allowed) = refused.join().expect("no panic");
        assert!(program);
        assert_eq!(refused, [Some(libc::EPERM); 5]);
        assert_ne!(allowed[0], Some(libc::EPERM));
        assert_eq!(allowed[1], Some(libc::ENOSYS));
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
