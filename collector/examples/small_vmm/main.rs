//! A VMM that shares no code with the collector's, for the tests of `collector attach`.
//!
//! Its guests start at CPL 3 in long mode and touch the pages of a fresh range one after another,
//! so that each page is one shadow fault. After every `--chunk` pages they write to a port. VM `v`
//! works at GVA `(v + 1) << 39`, its vCPU `c` from `c << 30` on. When all pages are touched, the
//! guests touch them again until the process is killed, without faults unless `--discard` is given.
//!
//! With `--refuse N` nobody may access the last page of each VM: KVM_RUN fails on it N times, then
//! the page is given back.
//!
//! With `--then` the process does what it says `--after-ms` after the first line: it forks (the child
//! keeps all descriptors, and sleeps), executes `sleep`, or exits. With `--churn N` it makes so many
//! VMs one after another, each for ten milliseconds.
//!
//! With `--move-slot` the memslot moves after each write to the port.
//!
//! With `--own-files` only some threads have the descriptors, with `--leave` the first thread ends
//! when all pages are touched.
//!
//! With `--apart` each page has a leaf table of its own, so that KVM makes a shadow page for each.
//!
//! With `--slow-ms N` the host brings the last page of each VM in so long after it is touched.
//!
//! It prints `ready` when every VM and its first vCPU exist, waits for a line, and prints
//! `touched` when all pages are touched. With `--late` it makes the other vCPUs at a second line.

#![allow(
    clippy::cast_possible_truncation,
    reason = "the guests of a test are small"
)]

mod guest;
mod ia32;
mod slow;

use std::{
    io::{self, BufRead as _},
    os::unix::process::CommandExt as _,
    process::Command,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Parser;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use rustix::mm::{MprotectFlags, mprotect};

use guest::{Guest, Layout, Work};

/// Runs guests that touch memory.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// VMs in this one process
    #[arg(long, default_value_t = 1)]
    vms: u64,
    /// vCPUs of each VM
    #[arg(long, default_value_t = 1)]
    vcpus: u64,
    /// Pages that each vCPU touches
    #[arg(long, default_value_t = 4096)]
    pages: u64,
    /// Pages between two writes to the port
    #[arg(long, default_value_t = 64)]
    chunk: u64,
    /// Pause after each write to the port, milliseconds
    #[arg(long, default_value_t = 0)]
    pause_ms: u64,
    /// Make all vCPUs but the first of each VM only at a second line
    #[arg(long)]
    late: bool,
    /// Change the thread that runs a vCPU after so many writes to the port; 0: never
    #[arg(long, default_value_t = 0)]
    move_after: u64,
    /// Give the pages of a vCPU back to the host when it has touched all: they fault again
    #[arg(long)]
    discard: bool,
    /// Call KVM_RUN as a 32-bit program does (`int 0x80`)
    #[arg(long)]
    ia32: bool,
    /// Let KVM_RUN fail so often at the last page of each VM
    #[arg(long, default_value_t = 0)]
    refuse: u64,
    /// Let the last page of each VM come in so long after it is touched, milliseconds; 0: at once
    #[arg(long, default_value_t = 0)]
    slow_ms: u64,
    /// What the process does after a while
    #[arg(long)]
    then: Option<Then>,
    /// After how long, milliseconds
    #[arg(long, default_value_t = 0)]
    after_ms: u64,
    /// Do all that in a thread with a table of descriptors of its own
    #[arg(long)]
    own_files: bool,
    /// End the first thread when all pages are touched
    #[arg(long)]
    leave: bool,
    /// After each round move the memslot to another mapping of the same memory, and back after the
    /// next; for one vCPU
    #[arg(long)]
    move_slot: bool,
    /// Map each page by a leaf table of its own, 2 MiB from the one before; for one vCPU
    #[arg(long, conflicts_with = "move_slot")]
    apart: bool,
    /// Make so many VMs, one after another
    #[arg(long, default_value_t = 0)]
    churn: u64,
}

impl Args {
    fn layout(&self) -> Layout {
        Layout {
            vcpus: self.vcpus,
            pages: self.pages,
            twice: self.move_slot,
            apart: self.apart,
        }
    }
}

/// How long each VM of `--churn` lives.
const SHORT_LIFE: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Then {
    Fork,
    Exec,
    Exit,
}

impl Then {
    fn run(self) {
        match self {
            Then::Fork => {
                // SAFETY: the child calls only functions that are safe after a fork.
                if unsafe { libc::fork() } == 0 {
                    // SAFETY: as above.
                    unsafe {
                        libc::sleep(60);
                        libc::_exit(0)
                    }
                }
            }
            Then::Exec => {
                let error = Command::new("sleep").arg("60").exec();
                eprintln!("error: {error}");
            }
            Then::Exit => std::process::exit(0),
        }
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if !args.own_files {
        return run(args);
    }
    let running = thread::spawn(move || {
        // SAFETY: this thread has no descriptor that another one uses.
        let own = unsafe { libc::unshare(libc::CLONE_FILES) };
        anyhow::ensure!(own == 0, "unshare: {}", io::Error::last_os_error());
        run(args)
    });
    running.join().map_err(|_| anyhow::anyhow!("panicked"))?
}

fn run(args: Args) -> anyhow::Result<()> {
    let kvm = Kvm::new().context("while opening /dev/kvm")?;
    if args.churn > 0 {
        return churn(&kvm, &args);
    }
    let touched = Arc::new(Barrier::new((args.vms * args.vcpus + 1) as usize));
    let mut guests = Vec::new();
    for vm in 0..args.vms {
        let guest = Guest::new(&kvm, vm, args.layout())?;
        if args.refuse > 0 {
            protect(guest.last_page(), MprotectFlags::empty())?;
        }
        if args.slow_ms > 0 {
            slow::slow(guest.last_page(), Duration::from_millis(args.slow_ms))?;
        }
        guests.push((Some(guest.vcpu(&kvm, 0)?), guest));
    }
    println!("ready");
    wait_for_a_line()?;
    if let Some(then) = args.then {
        let after = Duration::from_millis(args.after_ms);
        thread::spawn(move || {
            thread::sleep(after);
            then.run();
        });
    }
    let start_first = |(first, guest): &mut (Option<VcpuFd>, Guest)| {
        if let Some(first) = first.take() {
            start(first, guest.work(0, &args), Arc::clone(&touched));
        }
    };
    guests.iter_mut().for_each(start_first);
    if args.late {
        wait_for_a_line()?;
    }
    for (_, guest) in &guests {
        for vcpu in 1..args.vcpus {
            let fd = guest.vcpu(&kvm, vcpu)?;
            start(fd, guest.work(vcpu, &args), Arc::clone(&touched));
        }
    }
    touched.wait();
    println!("touched");
    if args.leave {
        // SAFETY: ends this thread alone; the guests, which it keeps, are never dropped.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    loop {
        thread::park();
    }
}

/// Makes VMs that live for a moment.
fn churn(kvm: &Kvm, args: &Args) -> anyhow::Result<()> {
    println!("ready");
    wait_for_a_line()?;
    for _ in 0..args.churn {
        let begin = Instant::now();
        let guest = Guest::new(kvm, 0, args.layout())?;
        let (mut vcpu, work) = (guest.vcpu(kvm, 0)?, guest.work(0, args));
        let touched = Barrier::new(1);
        let (mut done, mut refused) = (0, 0);
        let work = Work {
            move_after: work.rounds,
            ..work
        };
        stretch(&mut vcpu, work, [&mut done, &mut refused], &touched)?;
        thread::sleep(SHORT_LIFE.saturating_sub(begin.elapsed()));
    }
    println!("touched");
    loop {
        thread::park();
    }
}

/// Sets how a page may be accessed.
fn protect(page: usize, access: MprotectFlags) -> anyhow::Result<()> {
    let page = std::ptr::with_exposed_provenance_mut(page);
    // SAFETY: a page of a guest's memory, which this process does not read or write.
    unsafe { mprotect(page, 4096, access) }.context("mprotect")
}

fn wait_for_a_line() -> io::Result<()> {
    io::stdin().lock().read_line(&mut String::new()).map(|_| ())
}

impl Guest {
    fn work(&self, vcpu: u64, args: &Args) -> Work {
        Work {
            start: self.range(vcpu),
            rounds: args.pages / args.chunk,
            chunk: args.chunk,
            pause: Duration::from_millis(args.pause_ms),
            move_after: args.move_after,
            discard: args.discard.then(|| self.memory_of(vcpu, args.pages)),
            refuse: args.refuse,
            ia32: args.ia32,
            last_page: self.last_page(),
            moves: self.slot(),
        }
    }
}

fn start(mut vcpu: VcpuFd, work: Work, touched: Arc<Barrier>) {
    thread::spawn(move || {
        let (mut done, mut refused) = (0, 0);
        loop {
            // A thread for a stretch of rounds, if the vCPU is to change threads.
            let ran = thread::scope(|scope| {
                scope
                    .spawn(|| stretch(&mut vcpu, work, [&mut done, &mut refused], &touched))
                    .join()
            });
            match ran {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    eprintln!("error: {error:#}");
                    return;
                }
                Err(_) => return,
            }
        }
    });
}

/// Runs until it is another thread's turn.
fn stretch(
    vcpu: &mut VcpuFd,
    work: Work,
    [done, refused]: [&mut u64; 2],
    touched: &Barrier,
) -> anyhow::Result<()> {
    if *done == 0 {
        work.enter(vcpu)?;
    }
    loop {
        let ran = match work.ia32 {
            true => ia32::run(vcpu),
            false => vcpu.run().map(|exit| match exit {
                VcpuExit::IoOut(guest::PORT, _) => Ok(()),
                exit => Err(format!("{exit:?}")),
            }),
        };
        match ran {
            Ok(Ok(())) => {}
            Ok(Err(exit)) => bail!("the guest stopped: {exit}"),
            // Somebody looks at the thread (`ptrace`), or stops and continues it.
            Err(error) if error.errno() == libc::EINTR => continue,
            Err(error) if error.errno() == libc::EFAULT && *refused < work.refuse => {
                *refused += 1;
                if *refused == work.refuse {
                    protect(work.last_page, MprotectFlags::READ | MprotectFlags::WRITE)?;
                }
                continue;
            }
            Err(error) => return Err(error).context("KVM_RUN"),
        }
        *done += 1;
        if let Some(slot) = work.moves {
            slot.set((*done % 2) as usize)?;
        }
        if *done == work.rounds {
            touched.wait();
        }
        if done.is_multiple_of(work.rounds) {
            if let Some(memory) = work.discard {
                memory.discard()?;
            }
            work.again(vcpu)?;
        }
        thread::sleep(work.pause);
        if done.is_multiple_of(work.move_after) {
            return Ok(());
        }
    }
}
