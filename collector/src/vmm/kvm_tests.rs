//! Tests on this host's real KVM: workloads, and every kind of misbehaviour.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use abi::{CrashKind, Phase};

use super::lock::lock;
use super::{GuestResult, HookError, Hooks, Stops, Vmm, VmmError};
use crate::keyframe::Every;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

/// Records the phases.
#[derive(Default)]
struct Marks(Mutex<Vec<Phase>>);

impl Hooks for Marks {
    fn mark(&self, _vcpu: u16, phase: Phase, _guest_tsc: u64) -> Result<(), HookError> {
        lock(&self.0).push(phase);
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
    let marks = Marks::default();
    let result = vmm(workload, params).run(&marks, LONG, &AtomicBool::new(false));
    (
        result.unwrap_or_else(|error| panic!("{workload} {params:?}: {error}")),
        marks.0.into_inner().unwrap(),
    )
}

fn crash(kind: CrashKind, timeout: Duration) -> VmmError {
    let mut vmm = vmm("crash", &[("kind", kind.name())]);
    vmm.run(&Marks::default(), timeout, &AtomicBool::new(false))
        .unwrap_err()
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_every_size_pattern_and_access_works() {
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
        result
            .marks
            .windows(2)
            .all(|pair| pair[0].guest_tsc < pair[1].guest_tsc),
        "{:?}",
        result.marks
    );
}

/// Maximum number of faults in the boot area: stacks, image, mailbox, and the guest's page tables
/// on a host that runs CPL0 natively.
const BOOT_FAULTS: u64 = 64;

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_counters_are_as_the_plan_expects() {
    for workload in ["linear", "demand"] {
        for write in ["true", "false"] {
            let mut vmm = vmm(workload, &[("pages", "1000"), ("write", write)]);
            vmm.run(&Marks::default(), LONG, &AtomicBool::new(false))
                .unwrap();
            let counters = &vmm.stats().unwrap().vcpus[0];
            let counter = |name: &str| {
                let found = counters.iter().find(|(known, _)| known == name);
                found.unwrap_or_else(|| panic!("{name} is counted")).1
            };
            let expected = plan(workload, &[("pages", "1000"), ("write", write)]).expected;
            let expected = expected.expect("theory gives them");
            assert_eq!(
                counter("pf_guest"),
                expected.guest_faults,
                "{workload} {write}"
            );
            let others = counter("pf_fixed").checked_sub(expected.shadow_faults);
            assert!(
                others.is_some_and(|more| more < BOOT_FAULTS),
                "{workload} {write}: {counters:?}"
            );
        }
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_a_confined_thread_runs_a_guest() {
    /// Tries a forbidden system call on the vCPU's thread.
    struct Tries(AtomicBool);
    impl Hooks for Tries {
        fn mark(&self, _: u16, _: Phase, _: u64) -> Result<(), HookError> {
            let opened = std::fs::File::open("/dev/null").is_ok();
            self.0.fetch_or(opened, Ordering::Relaxed);
            Ok(())
        }
    }
    let mut vmm = vmm("demand", &[("pages", "600")]).confined();
    let tries = Tries(AtomicBool::new(false));
    let ran = vmm.run(&tries, LONG, &AtomicBool::new(false)).unwrap();
    let stats = vmm.stats().is_ok();
    assert_eq!((ran.pages, stats, tries.0.into_inner()), (600, true, false));
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_memory_is_one_slot() {
    let vmm = vmm("linear", &[("pages", "1")]);
    let [slot] = vmm.memslots()[..] else {
        panic!("{:?}", vmm.memslots())
    };
    assert_eq!((slot.id, slot.gpa.0, slot.hva % 4096), (0, 0, 0));
    assert_eq!(slot.until_ns, None);
    assert!(slot.bytes > 1 << 20 && !vmm.vcpu_fds().contains(&vmm.vm_fd()));
}

/// Stops the guest, and fails after a number of stops.
struct Stopping {
    stops: Stops,
    left: AtomicU32,
}

impl Stopping {
    fn new(left: u32, stops: Stops) -> Self {
        let left = AtomicU32::new(left);
        Self { stops, left }
    }
}

impl Hooks for Stopping {
    fn mark(&self, _: u16, _: Phase, _: u64) -> Result<(), HookError> {
        Ok(())
    }

    fn stops(&self) -> Stops {
        self.stops
    }

    fn stopped(&self, _: Option<Instant>) -> Result<(), HookError> {
        let left = self.left.load(Ordering::Relaxed);
        let less = left.checked_sub(1).ok_or("enough")?;
        self.left.store(less, Ordering::Relaxed);
        Ok(())
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_regular_stops_stop_a_busy_guest() {
    let stops = Stops {
        every: Some(Every::Time(Duration::from_millis(5))),
        marks: false,
    };
    for kind in ["loop", "kernel-loop"] {
        let mut vmm = vmm("crash", &[("kind", kind)]);
        let error = vmm
            .run(&Stopping::new(3, stops), LONG, &AtomicBool::new(false))
            .unwrap_err();
        assert!(
            matches!(&error, VmmError::Stopped(source) if source.to_string() == "enough"),
            "{error}"
        );
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_each_mark_can_stop_the_guest() {
    let stops = Stops {
        every: None,
        marks: true,
    };
    let hooks = Stopping::new(100, stops);
    let mut vmm = vmm("linear", &[("pages", "3")]);
    let result = vmm.run(&hooks, LONG, &AtomicBool::new(false)).unwrap();
    // One more before the first instruction.
    let stopped = 100 - hooks.left.into_inner() as usize;
    assert_eq!(stopped, result.marks.len() + 1);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_a_stop_before_the_start_can_fail() {
    let hooks = Stopping::new(0, Stops::default());
    let error = vmm("linear", &[]).run(&hooks, LONG, &AtomicBool::new(false));
    assert!(matches!(error, Err(VmmError::Start(_))), "{error:?}");
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
        let error = vmm.run(&Marks::default(), LONG, &cancel).unwrap_err();
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
