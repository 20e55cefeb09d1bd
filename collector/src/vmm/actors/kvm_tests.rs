//! Actors against guests on this host's real KVM. Each guest checks its own memory.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use abi::{FrameRange, Gpa, PAGE_BYTES, Phase};
use workloads::{Actor, Backing, Plan, Slot};

use super::super::hooks::{HookError, Hooks, HostAct, HostActKind};
use super::super::lock::lock;
use super::super::run::GuestResult;
use super::super::{Vmm, VmmError};

const LONG: Duration = Duration::from_secs(60);
const OFTEN: Duration = Duration::from_micros(500);
/// The slot of the work frames.
const WORK_SLOT: u16 = 1;

/// Records the acts.
#[derive(Default)]
struct Acts(Mutex<Vec<HostAct>>);

impl Hooks for Acts {
    fn mark(&self, _: u16, _: Phase, _: u64) -> Result<(), HookError> {
        Ok(())
    }

    fn wants_acts(&self) -> bool {
        true
    }

    fn acted(&self, act: &HostAct) -> Result<(), HookError> {
        lock(&self.0).push(*act);
        Ok(())
    }
}

fn plan(backing: Backing, actors: Vec<Actor>) -> Plan {
    linear(16384, backing, actors)
}

/// `linear`, with the work frames in their own memslot.
fn linear(pages: u64, backing: Backing, actors: Vec<Actor>) -> Plan {
    let params = [("pages", pages.to_string()), ("pattern", "random".into())]
        .map(|(name, value)| (name.to_owned(), value));
    let mut plan = workloads::find("linear").unwrap().plan(&params).unwrap();
    let work = plan.boot_info.work;
    let slot = |id, gpa: Gpa, bytes, backing| Slot {
        id,
        gpa,
        bytes,
        backing,
    };
    plan.host.slots = vec![
        slot(0, Gpa(0), work.start.0, Backing::Small),
        slot(WORK_SLOT, work.start, work.frames * PAGE_BYTES, backing),
    ];
    plan.host.actors = actors;
    plan
}

fn run(plan: &Plan) -> (Vmm, GuestResult, Vec<HostAct>) {
    let (mut vmm, acts) = (Vmm::new(plan).unwrap().confined(), Acts::default());
    let result = vmm.run(&acts, LONG, &AtomicBool::new(false));
    let result = result.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(result.pages, plan.work.pages);
    (vmm, result, acts.0.into_inner().unwrap())
}

/// How often such a run is tried. On a busy machine the guest may be done before the host's thread
/// has had a CPU.
const TRIES: u32 = 8;

/// The same, with an actor that has passed more than ten times.
fn run_beside(plan: &Plan) -> (Vmm, GuestResult, Vec<HostAct>) {
    let runs = (0..TRIES).map(|_| run(plan));
    let mut runs = runs.skip_while(|(_, result, _)| result.passes <= 10);
    runs.next().expect("the actor passes while the guest runs")
}

fn disturb(plan: &Plan) -> Actor {
    Actor::Reclaim {
        discard: FrameRange::default(),
        disturb: plan.boot_info.work,
        chunk_frames: 512,
        every: OFTEN,
    }
}

fn dirty(clear: bool) -> Actor {
    Actor::DirtyLog {
        slot: WORK_SLOT,
        clear,
        toggle: true,
        every: OFTEN,
    }
}

fn memslots() -> Actor {
    Actor::Memslots {
        slot: WORK_SLOT,
        window: Gpa(1 << 30),
        every: OFTEN,
    }
}

fn count(acts: &[HostAct], kind: HostActKind) -> u64 {
    acts.iter().filter(|act| act.kind == kind).count() as u64
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_memory_that_moves_keeps_its_content() {
    for backing in [Backing::Small, Backing::Huge] {
        let mut plan = plan(backing, Vec::new());
        plan.host.actors = vec![disturb(&plan)];
        let (_, result, acts) = run_beside(&plan);
        // Once away and once back.
        assert_eq!(count(&acts, HostActKind::Unmapped), 2 * result.passes);
        assert!(acts.iter().all(|act| act.slot == WORK_SLOT));
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_the_guest_reports_a_discarded_page() {
    let mut plan = plan(Backing::Small, Vec::new());
    plan.host.actors = vec![Actor::Reclaim {
        discard: plan.boot_info.work,
        disturb: FrameRange::default(),
        chunk_frames: 512,
        every: OFTEN,
    }];
    let mut vmm = Vmm::new(&plan).unwrap();
    let error = vmm.run(&Acts::default(), LONG, &AtomicBool::new(false));
    assert!(
        matches!(error, Err(VmmError::WrongResult { found: 0, .. })),
        "{error:?}"
    );
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_the_dirty_log_holds_every_frame_written() {
    for clear in [false, true] {
        let (_, result, acts) = run_beside(&plan(Backing::Small, vec![dirty(clear)]));
        let started = count(&acts, HostActKind::DirtyStarted);
        assert_eq!(started, 1 + result.passes / 8);
        assert_eq!(count(&acts, HostActKind::DirtyStopped), started);
        assert!(count(&acts, HostActKind::DirtyCleared) > 10);
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_memslots_come_and_go_under_the_guest() {
    let (vmm, _, acts) = run_beside(&plan(Backing::Small, vec![memslots()]));
    let slots = vmm.memslots();
    let there: Vec<_> = slots
        .iter()
        .filter(|slot| slot.until_ns.is_none())
        .map(|slot| (slot.id, slot.gpa))
        .collect();
    let home = vmm.plan.boot_info.work.start;
    assert_eq!(there, [(0, Gpa(0)), (WORK_SLOT, home)]);
    let gone = slots.len() - there.len();
    assert_eq!(count(&acts, HostActKind::SlotFlushed), gone as u64);
    for slot in slots {
        assert!(slot.until_ns.is_none_or(|until| until > slot.from_ns));
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_the_vmm_serves_accesses_while_a_memslot_is_away() {
    let plan = plan(Backing::Small, vec![memslots()]);
    // This guest is not stopped: apart from marks, only accesses that the VMM serves end KVM_RUN.
    let served = || {
        let mut vmm = Vmm::new(&plan).unwrap().confined();
        let hooks = Writes { hva: None };
        let result = vmm.run(&hooks, LONG, &AtomicBool::new(false)).unwrap();
        result.exits - result.marks.len() as u64
    };
    assert!((0..TRIES).any(|_| served() > 10));
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_actors_work_side_by_side() {
    let mut plan = plan(Backing::Small, vec![memslots()]);
    plan.host.actors.extend([
        disturb(&plan),
        Actor::DirtyLog {
            slot: 0,
            clear: false,
            toggle: true,
            every: OFTEN,
        },
    ]);
    plan.host.mmu_pages = Some(64);
    run(&plan);
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_shadow_pages_can_be_bounded() {
    // 128 leaf tables.
    let mut plan = linear(65536, Backing::Small, Vec::new());
    let recycled = |plan: &Plan| {
        let (vmm, ..) = run(plan);
        let counters = vmm.stats().unwrap().vm;
        let recycled = counters.iter().find(|(name, _)| name == "mmu_recycled");
        recycled.unwrap().1
    };
    assert_eq!(recycled(&plan), 0);
    plan.host.mmu_pages = Some(64);
    assert!(recycled(&plan) > 0);
    plan.host.mmu_pages = Some(1);
    let refused = Vmm::new(&plan);
    assert!(matches!(
        refused,
        Err(VmmError::SetMmuPages { pages: 1, .. })
    ));
}

/// Writes guest memory without KVM's knowledge, if there is an address.
struct Writes {
    hva: Option<u64>,
}

impl Hooks for Writes {
    fn mark(&self, _: u16, phase: Phase, _: u64) -> Result<(), HookError> {
        if let (Phase::Check, Some(hva)) = (phase, self.hva) {
            let page = std::ptr::with_exposed_provenance_mut::<u8>(hva as usize);
            // SAFETY: a page of guest memory that neither guest nor VMM uses.
            unsafe { page.write(1) };
        }
        Ok(())
    }
}

#[test]
#[ignore = "needs /dev/kvm"]
fn kvm_a_frame_missing_in_the_dirty_log_is_found() {
    let log = Actor::DirtyLog {
        slot: WORK_SLOT,
        clear: false,
        toggle: false,
        every: OFTEN,
    };
    let mut plan = plan(Backing::Small, vec![log]);
    // One frame that the guest does not know.
    plan.host.slots[1].bytes += PAGE_BYTES;
    let mut vmm = Vmm::new(&plan).unwrap();
    let work = plan.boot_info.work;
    let hva = Some(vmm.memslots()[1].hva + work.frames * PAGE_BYTES);
    let error = vmm.run(&Writes { hva }, LONG, &AtomicBool::new(false));
    let Err(VmmError::DirtyLogMissed {
        slot: WORK_SLOT,
        gpa,
        missed: 1,
        changed,
    }) = error
    else {
        panic!("{error:?}")
    };
    assert_eq!(gpa, work.end().0);
    assert!(changed > work.frames / 2, "{changed}");
}
