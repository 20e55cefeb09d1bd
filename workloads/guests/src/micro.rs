//! `micro`: one operation again and again, timed by the guest's own clock.
//!
//! What an operation needs is prepared before its batch, and what it did is checked after it. Both
//! are not timed. The handlers and loops at CPL0 are assembly, since a host that emulates CPL0 pays
//! for each instruction.

use abi::layout::{self, WORK};
use abi::{
    Batches, BootInfo, CALL_PORT, FrameRange, Gpa, Gva, MicroOp, PORT_ANSWER, Phase, ResultCode,
    to_usize,
};
use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::access::{load, store, try_load, try_store};
use crate::check::Check;
use crate::ground::Ground;
use crate::paging::{ADDRESS, FLAGS, WRITABLE};
use crate::tables::Space;
use crate::{call, cpu, idt, service};

/// Vectors of #DE and #PF.
const DIVIDE_ERROR: u8 = 0;
const PAGE_FAULT: u8 = 14;
/// Error codes of CPL3: a load where nothing is mapped, a store without W.
const NO_LOAD: u64 = 4;
const READ_ONLY: u64 = 4 | 2 | 1;
/// A hypercall that KVM does not have, and its answer (`-KVM_ENOSYS`).
const NO_HYPERCALL: u64 = 0x5348;
const NO_SUCH_HYPERCALL: u64 = (-1000_i64).cast_unsigned();

/// The leaf table of the range, and the entry of its first page: for the #PF handler.
static TABLE: AtomicU64 = AtomicU64::new(0);
static FIRST_ENTRY: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" {
    fn micro_divide_error();
    fn micro_page_fault();
    fn micro_exceptions(count: u64) -> u64;
    fn micro_syscall();
    fn micro_syscall_kpti();
    fn micro_syscalls(count: u64, kernel: u64, user: u64) -> u64;
    fn micro_hypercalls(count: u64) -> u64;
    fn micro_no_hypercalls(count: u64) -> u64;
    fn micro_cpuids(count: u64) -> u64;
    fn micro_no_cpuids(count: u64) -> u64;
    fn micro_inputs(count: u64) -> u64;
    fn micro_no_inputs(count: u64) -> u64;
}

global_asm!(
    // #DE of `micro_exceptions`: counts it, and resumes after the `div` of two bytes.
    ".balign 16",
    ".globl micro_divide_error",
    "micro_divide_error:",
    "inc r8",
    "add qword ptr [rsp], 2",
    "iretq",
    // #PF in the range, of at most 2 MiB: maps the page of CR2 writable.
    ".balign 16",
    ".globl micro_page_fault",
    "micro_page_fault:",
    "push rax; push rcx",
    "mov rax, cr2",
    "mov rcx, rax",
    "shr rcx, 21",
    "cmp rcx, {region}",
    "jne 2f",
    "shr rax, 12",
    "and eax, 511",
    "mov rcx, rax",
    "shl rcx, 12",
    "add rcx, [rip + {first_entry}]",
    "shl rax, 3",
    "add rax, [rip + {table}]",
    "mov [rax], rcx",
    "pop rcx; pop rax",
    "add rsp, 8",
    "iretq",
    "2: pop rcx; pop rax",
    "jmp [rip + exception_stubs + 8 * 14]",
    // At CPL3: `count` times #DE. Returns how many were handled.
    ".balign 16",
    ".globl micro_exceptions",
    "micro_exceptions:",
    "xor r8d, r8d",
    "xor ecx, ecx",
    "2: div ecx",
    "dec rdi",
    "jnz 2b",
    "mov rax, r8",
    "ret",
    // SYSCALL of `micro_syscalls`: answers 1. Interrupts stay off, so it needs no stack.
    ".balign 16",
    ".globl micro_syscall",
    "micro_syscall:",
    "mov eax, 1",
    "sysretq",
    // The same between a load of CR3 with the kernel's root and one with the user's.
    ".balign 16",
    ".globl micro_syscall_kpti",
    "micro_syscall_kpti:",
    "mov cr3, rsi",
    "mov eax, 1",
    "mov cr3, rdx",
    "sysretq",
    // At CPL3: `count` times SYSCALL, with the two roots for the handler. Returns the sum of the
    // answers. SYSCALL changes RCX and R11.
    ".balign 16",
    ".globl micro_syscalls",
    "micro_syscalls:",
    "xor r8d, r8d",
    "2: xor eax, eax",
    "syscall",
    "add r8, rax",
    "dec rdi",
    "jnz 2b",
    "mov rax, r8",
    "ret",
    // At CPL0: an instruction `count` times, and the same loop without it. Each returns the sum of
    // the answers.
    ".macro micro_loop name, answer, before, instruction:vararg",
    ".balign 16",
    ".globl \\name",
    "\\name\\():",
    "push rbx",
    "xor r8d, r8d",
    "mov edx, {port}",
    "2: \\before",
    "\\instruction",
    "add r8, \\answer",
    "dec rdi",
    "jnz 2b",
    "mov rax, r8",
    "pop rbx",
    "ret",
    ".endm",
    "micro_loop micro_hypercalls, rax, \"mov eax, {number}\", vmmcall",
    "micro_loop micro_no_hypercalls, rax, \"mov eax, {number}\"",
    "micro_loop micro_cpuids, rbx, \"xor eax, eax\", cpuid",
    "micro_loop micro_no_cpuids, rbx, \"xor eax, eax\"",
    "micro_loop micro_inputs, rax, \"\", in eax, dx",
    "micro_loop micro_no_inputs, rax, \"\"",
    region = const WORK.0 >> 21,
    first_entry = sym FIRST_ENTRY,
    table = sym TABLE,
    port = const CALL_PORT,
    number = const NO_HYPERCALL,
);

fn op(info: &BootInfo) -> MicroOp {
    let op = MicroOp::ALL.get(to_usize(info.params[0]));
    op.copied()
        .unwrap_or_else(|| call::done(ResultCode::BadBootInfo, &[]))
}

/// Installs the handler of the operation. CPL0 only.
pub fn prepare(info: &BootInfo) {
    let address = |handler: unsafe extern "C" fn()| (handler as *const ()).addr() as u64;
    match op(info) {
        MicroOp::PageFault | MicroOp::ProtectionFault => {
            idt::set(PAGE_FAULT, address(micro_page_fault));
        }
        MicroOp::Exception => idt::set(DIVIDE_ERROR, address(micro_divide_error)),
        MicroOp::Syscall => cpu::set_system_call(address(micro_syscall)),
        MicroOp::SyscallKpti => cpu::set_system_call(address(micro_syscall_kpti)),
        _ => {}
    }
}

/// Repeats an instruction, or its loop alone, and returns the sum of the answers; see
/// [`service::repeat`].
pub fn repeat_at_cpl0(which: u64, count: u64) -> u64 {
    let loops = [
        micro_hypercalls,
        micro_no_hypercalls,
        micro_cpuids,
        micro_no_cpuids,
        micro_inputs,
        micro_no_inputs,
    ];
    match loops.get(to_usize(which)) {
        // SAFETY: they follow the C ABI and change no memory but their stack. `count` is at least
        // 1: CPL3 asks for a batch.
        Some(run) => unsafe { run(count) },
        None => 0,
    }
}

/// Runs the batches.
pub fn run(ground: Ground, info: &BootInfo, check: &mut Check) {
    let [_, ops, batches, pages, seed, ..] = info.params;
    let op = op(info);
    let pages = if op == MicroOp::Fork { pages } else { ops };
    let micro = Micro {
        ground,
        ops,
        pages,
        seed,
    };
    micro.fill_frames();
    call::mark(Phase::Work);
    match op {
        MicroOp::ShadowFault => micro.each(batches, check, Micro::shadow_faults),
        MicroOp::PageFault => micro.each(batches, check, Micro::page_faults),
        MicroOp::ProtectionFault => micro.each(batches, check, Micro::protection_faults),
        MicroOp::MapUnmap => {
            micro.unmap();
            micro.each(batches, check, Micro::maps_and_unmaps);
            micro.map(FLAGS);
            micro.check_values(batches - 1, check);
        }
        MicroOp::Cr3Switch => micro.switches(batches, check),
        MicroOp::Hypercall => micro.at_cpl0(batches, check, 0, |_| NO_SUCH_HYPERCALL),
        MicroOp::Exception => micro.exceptions(batches, check),
        MicroOp::Cpuid => micro.at_cpl0(batches, check, 2, |which| service::repeat(which, 1)),
        MicroOp::Pio => micro.at_cpl0(batches, check, 4, |_| PORT_ANSWER.into()),
        MicroOp::Fork => micro.each(batches, check, Micro::fork),
        MicroOp::Syscall => micro.system_calls(batches, check, micro.ground.space.root()),
        MicroOp::SyscallKpti => micro.system_calls(batches, check, Space::new().root()),
    }
}

/// Times a batch, and then the same without its operations: of those the shortest counts.
fn time(batch: impl FnOnce(), without: impl FnOnce()) {
    let cycles = cycles(batch);
    let empty = self::cycles(without);
    with_batches(|batches| {
        if batches.count == 0 {
            batches.empty_cycles = empty;
        }
        batches.empty_cycles = batches.empty_cycles.min(empty);
        batches.add(cycles);
    });
}

fn cycles(of: impl FnOnce()) -> u64 {
    let from = cpu::tsc_in_order();
    of();
    cpu::tsc_in_order().wrapping_sub(from)
}

fn with_batches(change: impl FnOnce(&mut Batches)) {
    let at = core::ptr::with_exposed_provenance_mut::<Batches>(
        layout::batches(cpu::number()).0 as usize,
    );
    // SAFETY: the page is identity-mapped, writable, and holds these times (any bytes are some)
    // after the mailbox. It is this CPU's own, and no other reference to them exists.
    change(unsafe { &mut *at });
}

/// The pages of a batch, each over its own frame.
struct Micro {
    ground: Ground,
    ops: u64,
    pages: u64,
    seed: u64,
}

impl Micro {
    fn each(&self, batches: u64, check: &mut Check, run: fn(&Self, u64, &mut Check)) {
        for batch in 0..batches {
            run(self, batch, check);
        }
    }

    fn gva(&self, page: u64) -> Gva {
        self.ground.gva(page)
    }

    fn value(&self, batch: u64, page: u64) -> u64 {
        abi::value(batch * self.pages + page, self.seed)
    }

    /// Stores to each frame, so that the host has memory for it before the first batch.
    fn fill_frames(&self) {
        let table = self.ground.space.entry(WORK, 1);
        TABLE.store(table.gpa().0, Ordering::Relaxed);
        FIRST_ENTRY.store(self.ground.frame(0).0 | FLAGS, Ordering::Relaxed);
        self.map(FLAGS);
        self.store_all(0);
    }

    fn map(&self, flags: u64) {
        let frames = (0..self.pages).map(|page| self.ground.frame(page).0 | flags);
        self.ground.space.fill(WORK, frames);
    }

    fn unmap(&self) {
        self.ground.space.fill(WORK, (0..self.pages).map(|_| 0));
        self.ground.space.load();
    }

    fn store_all(&self, batch: u64) {
        for page in 0..self.pages {
            store(self.gva(page), self.value(batch, page));
        }
    }

    fn check_values(&self, batch: u64, check: &mut Check) {
        for page in 0..self.pages {
            check.value(page, load(self.gva(page)), self.value(batch, page));
        }
    }

    /// Each page's entry must map its frame, writable.
    fn check_entries(&self, check: &mut Check) {
        for page in 0..self.pages {
            let found = self.ground.space.entry(self.gva(page), 1).get();
            let expected = self.ground.frame(page).0 | FLAGS;
            check.value(page, found & (ADDRESS | FLAGS), expected);
        }
    }

    fn shadow_faults(&self, batch: u64, check: &mut Check) {
        self.unmap();
        self.map(FLAGS);
        time(|| self.store_all(batch), || {});
        self.check_values(batch, check);
    }

    fn page_faults(&self, batch: u64, check: &mut Check) {
        self.unmap();
        time(|| self.store_all(batch), || {});
        self.check_values(batch, check);
        self.check_entries(check);
    }

    fn protection_faults(&self, batch: u64, check: &mut Check) {
        self.unmap();
        self.map(FLAGS & !WRITABLE);
        // The shadow entries are there, read-only.
        self.check_values(batch.saturating_sub(1), check);
        time(|| self.store_all(batch), || {});
        self.check_values(batch, check);
        self.check_entries(check);
    }

    fn maps_and_unmaps(&self, batch: u64, check: &mut Check) {
        let maps_and_unmaps = || {
            for page in 0..self.pages {
                let (gva, frame) = (self.gva(page), self.ground.frame(page));
                let entry = self.ground.space.entry(gva, 1);
                entry.set(frame.0 | FLAGS);
                store(gva, self.value(batch, page));
                entry.set_and_invalidate(0, gva);
            }
        };
        time(maps_and_unmaps, || {});
        let page = batch % self.pages;
        let went = try_load(self.gva(page)).map(|_| ());
        check.access(page, went, Some(NO_LOAD));
    }

    /// Two address spaces in turn, a load in each.
    fn switches(&self, batches: u64, check: &mut Check) {
        let other = Space::new();
        let spare = FrameRange {
            start: self.ground.frame(self.pages),
            frames: 1,
        };
        other.map(WORK, spare.start);
        other.load();
        store(WORK, 2);
        self.ground.space.load();
        store(WORK, 1);
        for _ in 0..batches {
            let mut sum = 0;
            let switches = || {
                for turn in 0..self.ops {
                    let space = [other, self.ground.space][to_usize(turn % 2)];
                    space.load();
                    sum += load(WORK);
                }
            };
            time(switches, || {});
            check.value(0, sum, self.ops + self.ops.div_ceil(2));
        }
    }

    fn exceptions(&self, batches: u64, check: &mut Check) {
        for _ in 0..batches {
            let mut handled = 0;
            // SAFETY: follows the C ABI; the #DE handler changes only R8.
            time(|| handled = unsafe { micro_exceptions(self.ops) }, || {});
            check.value(0, handled, self.ops);
        }
    }

    /// The handler of `syscall-kpti` runs under the root `kernel`.
    fn system_calls(&self, batches: u64, check: &mut Check, kernel: Gpa) {
        let user = self.ground.space.root();
        for _ in 0..batches {
            let mut answered = 0;
            // SAFETY: follows the C ABI; the handlers change only RAX, and both roots map them.
            let calls = || answered = unsafe { micro_syscalls(self.ops, kernel.0, user.0) };
            time(calls, || {});
            check.value(0, answered, self.ops);
        }
    }

    /// Loops of the kernel: loop `which` has the instruction, the next one has not.
    fn at_cpl0(&self, batches: u64, check: &mut Check, which: u64, answer: fn(u64) -> u64) {
        let answer = answer(which);
        for _ in 0..batches {
            let mut sum = 0;
            let without = || {
                service::repeat(which + 1, self.ops);
            };
            time(|| sum = service::repeat(which, self.ops), without);
            check.value(0, sum, answer.wrapping_mul(self.ops));
        }
    }

    fn fork(&self, batch: u64, check: &mut Check) {
        let parent = self.ground.space;
        self.map(FLAGS);
        parent.load();
        self.store_all(batch);
        let read_only = |page: u64| parent.entry(self.gva(page), 1).get() & !WRITABLE;
        let mut child = None;
        let fork = || {
            let space = Space::new();
            space.fill(WORK, (0..self.pages).map(read_only));
            parent.fill(WORK, (0..self.pages).map(read_only));
            parent.load();
            child = Some(space);
        };
        time(fork, || {});
        let Some(child) = child else { return };
        let page = batch % self.pages;
        for side in [parent, child] {
            side.load();
            check.access(page, try_store(self.gva(page), 1), Some(READ_ONLY));
            self.check_values(batch, check);
        }
        parent.load();
        child.end();
    }
}
