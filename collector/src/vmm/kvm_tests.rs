//! Tests on this host's real KVM: every workload, and every way to misbehave.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use abi::{CrashKind, Phase};

use super::{GuestResult, HookError, Hooks, Vmm, VmmError};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

/// Remembers the phases.
#[derive(Default)]
struct Marks(Vec<Phase>);

impl Hooks for Marks {
    fn mark(&mut self, _vcpu: u16, phase: Phase, _guest_tsc: u64) -> Result<(), HookError> {
        self.0.push(phase);
        Ok(())
    }
}

fn plan(workload: &str, params: &[(&str, &str)]) -> workloads::Plan {
    let params: Vec<_> = params
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    workloads::find(workload).unwrap().plan(&params).unwrap()
}

fn vmm(workload: &str, params: &[(&str, &str)]) -> Vmm {
    Vmm::new(&plan(workload, params)).unwrap()
}

fn run(workload: &str, params: &[(&str, &str)]) -> (GuestResult, Vec<Phase>) {
    let mut marks = Marks::default();
    let result = vmm(workload, params).run(&mut marks, LONG, &AtomicBool::new(false));
    (
        result.unwrap_or_else(|error| panic!("{workload} {params:?}: {error}")),
        marks.0,
    )
}

fn crash(kind: CrashKind, timeout: Duration) -> VmmError {
    let mut vmm = vmm("crash", &[("kind", kind.name())]);
    vmm.run(&mut Marks::default(), timeout, &AtomicBool::new(false))
        .unwrap_err()
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_every_size_pattern_and_access_ends_right() {
    for workload in ["linear", "demand"] {
        for pages in ["1", "511", "512", "513", "4096"] {
            for pattern in ["sequential", "stride", "random"] {
                for write in ["true", "false"] {
                    let params = [("pages", pages), ("pattern", pattern), ("write", write)];
                    let (result, _) = run(workload, &params);
                    assert_eq!(result.pages.to_string(), pages);
                }
            }
        }
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_phases_come_in_order() {
    use Phase::{Check, Done, Map, Start, Touch, Write};
    let phases = |workload, write| run(workload, &[("pages", "3"), ("write", write)]).1;
    assert_eq!(phases("linear", "true"), [Start, Map, Touch, Check, Done]);
    assert_eq!(
        phases("linear", "false"),
        [Start, Map, Touch, Write, Check, Done]
    );
    assert_eq!(phases("demand", "true"), [Start, Touch, Check, Done]);
    assert_eq!(
        phases("demand", "false"),
        [Start, Touch, Write, Check, Done]
    );
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_guest_clock_goes_forward() {
    let (result, _) = run("linear", &[]);
    assert!(
        result.marks.windows(2).all(|pair| pair[0].1 < pair[1].1),
        "{:?}",
        result.marks
    );
}

/// Faults that the boot area costs: stacks, image, mailbox, and on a host that runs CPL0
/// natively the guest's page tables too.
const BOOT_FAULTS: u64 = 64;

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_counters_are_as_the_plan_expects() {
    for workload in ["linear", "demand"] {
        for write in ["true", "false"] {
            let mut vmm = vmm(workload, &[("pages", "1000"), ("write", write)]);
            vmm.run(&mut Marks::default(), LONG, &AtomicBool::new(false))
                .unwrap();
            let counters = &vmm.stats().unwrap().vcpus[0];
            let counter = |name: &str| {
                let found = counters.iter().find(|(known, _)| known == name);
                found.unwrap_or_else(|| panic!("{name} is counted")).1
            };
            let expected = plan(workload, &[("pages", "1000"), ("write", write)]).expected;
            assert_eq!(
                counter("pf_guest"),
                expected.guest_faults,
                "{workload} {write}"
            );
            let beside = counter("pf_fixed").checked_sub(expected.shadow_faults);
            assert!(
                beside.is_some_and(|more| more < BOOT_FAULTS),
                "{workload} {write}: {counters:?}"
            );
        }
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_a_confined_thread_runs_a_guest() {
    let thread = std::thread::spawn(|| {
        let mut vmm = vmm("demand", &[("pages", "600")]).confined();
        let pages = vmm
            .run(&mut Marks::default(), LONG, &AtomicBool::new(false))
            .map(|r| r.pages);
        (
            pages,
            vmm.stats().is_ok(),
            std::fs::File::open("/dev/null").is_err(),
        )
    });
    let (pages, stats, cannot_open) = thread.join().unwrap();
    assert_eq!((pages.unwrap(), stats, cannot_open), (600, true, true));
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_memory_is_one_slot() {
    let vmm = vmm("linear", &[("pages", "1")]);
    let [slot] = vmm.memslots()[..] else {
        panic!("{:?}", vmm.memslots())
    };
    assert_eq!((slot.id, slot.base.0, slot.hva % 4096), (0, 0, 0));
    assert!(slot.bytes > 1 << 20 && vmm.vm_fd() != vmm.vcpu_fd());
}

/// A hook that is called a few times a second, and one that fails.
struct Ticks {
    left: u32,
}

impl Hooks for Ticks {
    fn mark(&mut self, _: u16, _: Phase, _: u64) -> Result<(), HookError> {
        Ok(())
    }

    fn tick_every(&self) -> Option<Duration> {
        Some(Duration::from_millis(5))
    }

    fn tick(&mut self, _: u16) -> Result<(), HookError> {
        self.left = self.left.checked_sub(1).ok_or("enough")?;
        Ok(())
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_ticks_stop_a_busy_guest() {
    for kind in ["loop", "kernel-loop"] {
        let mut vmm = vmm("crash", &[("kind", kind)]);
        let error = vmm
            .run(&mut Ticks { left: 3 }, LONG, &AtomicBool::new(false))
            .unwrap_err();
        assert!(
            matches!(&error, VmmError::Tick(source) if source.to_string() == "enough"),
            "{error}"
        );
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_endless_guests_are_stopped() {
    for kind in [CrashKind::Loop, CrashKind::KernelLoop] {
        let begin = Instant::now();
        let error = crash(kind, SHORT);
        let VmmError::Timeout { after: SHORT, regs } = &error else {
            panic!("{error}")
        };
        assert_eq!(
            regs.special.cs.selector & 3 == 3,
            kind == CrashKind::Loop,
            "{error}"
        );
        assert!(begin.elapsed() < SHORT * 10);
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_a_cancelled_guest_stops() {
    let cancel = AtomicBool::new(false);
    let mut vmm = vmm("crash", &[("kind", "loop")]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(SHORT);
            cancel.store(true, Ordering::Relaxed);
        });
        let error = vmm.run(&mut Marks::default(), LONG, &cancel).unwrap_err();
        assert!(matches!(error, VmmError::Cancelled), "{error}");
    });
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_every_crash_is_an_error_of_its_own() {
    for &kind in CrashKind::ALL {
        let error = crash(kind, SHORT);
        let as_expected = match kind {
            CrashKind::Triple => matches!(error, VmmError::TripleFault { .. }),
            CrashKind::Loop | CrashKind::KernelLoop => matches!(error, VmmError::Timeout { .. }),
            CrashKind::Outside => matches!(error, VmmError::OutsideMemory { write: true, .. }),
            CrashKind::Panic => {
                matches!(&error, VmmError::GuestPanic { text } if text.contains("0x8000000000"))
            }
            CrashKind::Exception => matches!(error, VmmError::GuestException { vector: 0, .. }),
            CrashKind::Port => matches!(
                error,
                VmmError::UnknownPort {
                    port: 0x80,
                    write: true,
                    ..
                }
            ),
            CrashKind::PortRead => matches!(
                error,
                VmmError::UnknownPort {
                    port: 0x60,
                    write: false,
                    ..
                }
            ),
            CrashKind::BadCall => matches!(error, VmmError::UnknownCall(_)),
            CrashKind::BadMailbox => matches!(error, VmmError::BadMailbox { .. }),
            CrashKind::Halt => matches!(error, VmmError::UnexpectedExit { .. }),
            CrashKind::WrongValue => matches!(
                error,
                VmmError::WrongResult {
                    first_bad_page: 7,
                    ..
                }
            ),
        };
        assert!(as_expected, "{kind}: {error}");
    }
}
