//! Several vCPUs on this host's real KVM, with a guest of a few instructions.

use std::arch::global_asm;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use abi::{Call, MAX_VCPUS, Phase, ResultCode, layout};

use super::{GuestResult, HookError, Hooks, Stops, Vmm, VmmError};
use crate::keyframe::Every;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);
/// Iterations of the guest's loop that take some time even where CPL0 is not emulated.
const TURNS: u64 = 30_000;
const ENDLESS: u64 = u64::MAX;

// Each CPU marks a phase, runs its parameter's number of iterations (0: halts), and is done with
// its number as the pages. Position-independent; RDI and RSI are as at the entry.
global_asm!(
    ".pushsection .rodata.smp_guest, \"a\"",
    "smp_guest:",
    "mov r8, rsi",
    "shl r8, 16",
    "add r8, {mailbox}",
    "mov rax, {magic}",
    "mov [r8], rax",
    "mov dword ptr [r8 + 8], {version}",
    "mov dword ptr [r8 + 12], {phase}",
    "mov edx, {port}",
    "mov eax, {mark}",
    "out dx, eax",
    "mov rcx, [rdi + rsi * 8 + 64]",
    "test rcx, rcx",
    "jz 3f",
    "2: dec rcx",
    "jnz 2b",
    "mov dword ptr [r8 + 24], {ok}",
    "mov [r8 + 32], rsi",
    "mov eax, {done}",
    "out dx, eax",
    "3: hlt",
    "smp_guest_end:",
    ".popsection",
    mailbox = const layout::mailbox(0).0,
    magic = const abi::MAGIC,
    version = const abi::ABI_VERSION,
    phase = const 3, // Phase::Touch
    port = const abi::CALL_PORT,
    mark = const 1, // Call::Mark
    ok = const 0, // ResultCode::Ok
    done = const 2, // Call::Done
);

unsafe extern "C" {
    static smp_guest: u8;
    static smp_guest_end: u8;
}

fn image() -> &'static [u8] {
    let (begin, end) = (&raw const smp_guest, &raw const smp_guest_end);
    // SAFETY: both labels belong to the same read-only data, in this order.
    unsafe { std::slice::from_raw_parts(begin, end.addr() - begin.addr()) }
}

/// A VM with one vCPU for each number of iterations.
fn vmm(turns: &[u64]) -> Vmm {
    let mut plan = workloads::find("linear").unwrap().plan(&[]).unwrap();
    plan.boot_info.vcpus = turns.len() as u32;
    plan.boot_info.params[..turns.len()].copy_from_slice(turns);
    let vmm = Vmm::new(&plan).unwrap();
    vmm.ram.write(layout::IMAGE, image()).unwrap();
    for vcpu in &vmm.vcpus {
        let mut regs = vcpu.get_regs().unwrap();
        regs.rip = layout::IMAGE.0;
        vcpu.set_regs(&regs).unwrap();
    }
    vmm.confined()
}

/// Counts starts and stops; nothing runs while the world is stopped.
#[derive(Default)]
struct Counts {
    starts: AtomicU32,
    stopped: AtomicU32,
    marks: AtomicU32,
    stops: Stops,
}

impl Hooks for Counts {
    fn start(&self, vcpu: u16) -> Result<(), HookError> {
        let name = std::thread::current().name().map(str::to_owned);
        assert_eq!(name, Some(format!("vcpu{vcpu}")));
        assert_eq!(self.stopped.load(Ordering::SeqCst), 0);
        self.starts.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn mark(&self, _: u16, _: Phase, _: u64) -> Result<(), HookError> {
        self.marks.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn stops(&self) -> Stops {
        self.stops
    }

    fn stopped(&self, _: Option<Instant>) -> Result<(), HookError> {
        let marks = self.marks.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(self.marks.load(Ordering::SeqCst), marks, "no vCPU runs");
        self.stopped.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn run(turns: &[u64], hooks: &Counts) -> Result<GuestResult, VmmError> {
    vmm(turns).run(hooks, LONG, &AtomicBool::new(false))
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_a_run_ends_when_all_vcpus_are_done() {
    assert_eq!(Phase::Touch.number(), 3);
    assert_eq!([Call::Mark, Call::Done].map(Call::number), [1, 2]);
    assert_eq!(ResultCode::try_from(0), Ok(ResultCode::Ok));
    for vcpus in 1..=usize::from(MAX_VCPUS) {
        let hooks = Counts::default();
        // They end at different times.
        let turns: Vec<u64> = (1..=vcpus as u64).map(|n| n * TURNS).collect();
        let result = run(&turns, &hooks).unwrap();
        assert_eq!(result.pages, (0..vcpus as u64).sum::<u64>());
        for vcpu in 0..vcpus as u16 {
            let phases: Vec<_> = result
                .marks
                .iter()
                .filter(|mark| mark.vcpu == vcpu)
                .map(|mark| mark.phase)
                .collect();
            assert_eq!(phases, [Phase::Touch, Phase::Done]);
        }
        assert_eq!(hooks.starts.into_inner() as usize, vcpus);
        assert_eq!(hooks.stopped.into_inner(), 1, "before the start only");
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_stops_at_marks_and_in_between_do_not_lock_up() {
    let hooks = Counts {
        stops: Stops {
            every: Some(Every::Time(Duration::from_millis(2))),
            marks: true,
        },
        ..Counts::default()
    };
    let result = run(&[TURNS, 2 * TURNS, 1, TURNS], &hooks).unwrap();
    assert_eq!(result.marks.len(), 8);
    // At each mark, before the start, and regularly.
    assert!(hooks.stopped.into_inner() > 9);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_the_first_failure_stops_all() {
    let begin = Instant::now();
    let error = run(&[ENDLESS, 0, ENDLESS], &Counts::default()).unwrap_err();
    assert!(matches!(error, VmmError::UnexpectedExit { .. }), "{error}");
    assert!(begin.elapsed() < LONG / 10);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_a_time_out_stops_all() {
    let error = vmm(&[ENDLESS, ENDLESS, 1, ENDLESS])
        .run(&Counts::default(), SHORT, &AtomicBool::new(false))
        .unwrap_err();
    assert!(matches!(error, VmmError::Timeout { .. }), "{error}");
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_each_vcpu_has_its_own_counters() {
    let mut vmm = vmm(&[TURNS, 1]);
    vmm.run(&Counts::default(), LONG, &AtomicBool::new(false))
        .unwrap();
    let vcpus = vmm.stats().unwrap().vcpus;
    assert_eq!(vcpus.len(), 2);
    // The second runs far fewer iterations.
    assert_ne!(vcpus[0], vcpus[1]);
    assert_eq!(vmm.vcpu_fds().len(), 2);
}
