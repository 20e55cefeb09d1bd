//! `smp` and `mixed`: the workloads with several CPUs.

use abi::layout::{FRAME_VIEW, WORK};
use abi::{BootInfo, MAX_VCPUS, Phase, Shares, WorkloadId, to_usize};

use crate::check::Check;
use crate::exercises::joint::Joint;
use crate::lock::Lock;
use crate::mix::Mix;
use crate::random::Random;
use crate::tables::{self, Space};
use crate::{call, cpu, team};

/// One step in this many loads another address space.
const SPACE_ONCE_IN: u64 = 8;

/// What CPU 0 has prepared for all.
#[derive(Clone, Copy)]
struct Setup {
    joint: Joint,
    /// Two spaces for each CPU, which may be the same.
    spaces: [[Space; 2]; MAX_VCPUS as usize],
}

static SETUP: Lock<Option<Setup>> = Lock::new(None);

/// Runs on CPU 0.
pub fn lead(workload: WorkloadId, info: &BootInfo) -> ! {
    tables::start();
    call::mark(Phase::Map);
    let view = (0..info.work.frames).map(|frame| info.work.start.add_frames(frame));
    Space::BOOT.map_run(FRAME_VIEW, view);
    let setup = match workload {
        WorkloadId::Smp => smp(info),
        _ => mixed(info),
    };
    SETUP.with(|slot| *slot = Some(setup));
    call::mark(Phase::Work);
    team::begin();
    work(workload, info)
}

/// Runs on the other CPUs.
pub fn join(workload: WorkloadId, info: &BootInfo) -> ! {
    team::wait();
    work(workload, info)
}

/// Each CPU works in the boot space, in its own space, or in both in turn.
fn smp(info: &BootInfo) -> Setup {
    let [cpus, roots, pages, ..] = info.params;
    let mut spaces = [[Space::BOOT; 2]; MAX_VCPUS as usize];
    let mut all = [Space::BOOT; MAX_VCPUS as usize + 1];
    let mut count = 1;
    if roots != 0 {
        for own in &mut spaces[..to_usize(cpus)] {
            own[1] = Space::new();
            if roots == 1 {
                own[0] = own[1];
            }
            all[count] = own[1];
            count += 1;
        }
    }
    // The pages are also mapped in the boot space if no CPU works in it.
    Setup {
        joint: Joint::new(pages, info.work, 0, &all[..count], cpus),
        spaces,
    }
}

/// All CPUs work in the boot space; with an odd seed CPUs other than 0 have their own spaces. Each
/// CPU has a second root, which shares the tables below.
fn mixed(info: &BootInfo) -> Setup {
    let [cpus, _, seed, ..] = info.params;
    let shares = Shares {
        start: info.work.start,
        cpus,
    };
    let frames = shares.joint();
    let mut spaces = [[Space::BOOT; 2]; MAX_VCPUS as usize];
    let mut all = [Space::BOOT; MAX_VCPUS as usize];
    let mut count = 1;
    if seed % 2 == 1 {
        for own in &mut spaces[1..to_usize(cpus)] {
            own[0] = Space::new();
            all[count] = own[0];
            count += 1;
        }
    }
    let view = (frames.start.0 - info.work.start.0) / abi::PAGE_BYTES;
    let joint = Joint::new(Shares::JOINT_PAGES, frames, view, &all[..count], cpus);
    for own in &mut spaces[..to_usize(cpus)] {
        own[1] = Space::new();
        own[1].share(own[0], WORK);
    }
    Setup { joint, spaces }
}

/// Runs on each CPU.
fn work(workload: WorkloadId, info: &BootInfo) -> ! {
    let Some(setup) = SETUP.with(|setup| *setup) else {
        panic!("CPU {} began before CPU 0 was ready", cpu::number())
    };
    let [cpus, ..] = info.params;
    let own = u64::from(cpu::number());
    let spaces = setup.spaces[to_usize(own)];
    let mut check = Check::default();
    spaces[0].load();
    match workload {
        WorkloadId::Smp => {
            let [_, _, _, steps, seed, ..] = info.params;
            let mut random = Random::new(seed + own);
            for _ in 0..steps {
                team::serve_requests();
                if spaces[0] != spaces[1] && random.once_in(SPACE_ONCE_IN) {
                    spaces[to_usize(random.below(2))].load();
                }
                setup.joint.step(&mut random, &mut check);
            }
        }
        _ => {
            let [_, steps, seed, ..] = info.params;
            let mut random = Random::new(seed * u64::from(MAX_VCPUS) + own);
            let shares = Shares {
                start: info.work.start,
                cpus,
            };
            let mut mix = Mix::new(shares, spaces, own, seed);
            for _ in 0..steps {
                team::serve_requests();
                if random.once_in(4) {
                    setup.joint.step(&mut random, &mut check);
                } else {
                    mix.step(&mut random, &mut check);
                }
            }
            mix.check(&mut check);
        }
    }
    team::finish(cpus);
    setup.joint.check(&mut check);
    check.finish()
}
