//! `smp` and `mixed`: the workloads that have several CPUs.

use abi::layout::{FRAME_VIEW, WORK};
use abi::{BootInfo, MAX_VCPUS, Phase, Shares, WorkloadId};

use crate::check::Check;
use crate::exercises::joint::Joint;
use crate::lock::Lock;
use crate::mix::Mix;
use crate::random::Random;
use crate::tables::{self, Space};
use crate::{call, cpu, team};

/// One in as many steps changes the space.
const SPACE_ONCE_IN: u64 = 8;

/// What CPU 0 has made ready for all.
#[derive(Clone, Copy)]
struct Setup {
    joint: Joint,
    /// Two spaces for each CPU, often the same.
    spaces: [[Space; 2]; MAX_VCPUS as usize],
}

static SETUP: Lock<Option<Setup>> = Lock::new(None);

/// On CPU 0.
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

/// On the other CPUs.
pub fn join(workload: WorkloadId, info: &BootInfo) -> ! {
    team::wait();
    work(workload, info)
}

/// Each CPU works in the boot space, in one of its own, or in both by turns.
fn smp(info: &BootInfo) -> Setup {
    let [cpus, roots, pages, ..] = info.params;
    let mut spaces = [[Space::BOOT; 2]; MAX_VCPUS as usize];
    let mut all = [Space::BOOT; MAX_VCPUS as usize + 1];
    let mut count = 1;
    if roots != 0 {
        for own in &mut spaces[..cpus as usize] {
            own[1] = Space::new();
            if roots == 1 {
                own[0] = own[1];
            }
            all[count] = own[1];
            count += 1;
        }
    }
    // Where nobody works in the boot space, its pages are mapped all the same.
    Setup {
        joint: Joint::new(pages, info.work, 0, &all[..count], cpus),
        spaces,
    }
}

/// CPU 0 works in the boot space, with an odd seed the others in spaces of their own; each has
/// a second root with the same tables below.
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
        for own in &mut spaces[1..cpus as usize] {
            own[0] = Space::new();
            all[count] = own[0];
            count += 1;
        }
    }
    let view = (frames.start.0 - info.work.start.0) / abi::PAGE_BYTES;
    let joint = Joint::new(Shares::JOINT_PAGES, frames, view, &all[..count], cpus);
    for own in &mut spaces[..cpus as usize] {
        own[1] = Space::new();
        own[1].share(own[0], WORK);
    }
    Setup { joint, spaces }
}

/// On each CPU.
fn work(workload: WorkloadId, info: &BootInfo) -> ! {
    let Some(setup) = SETUP.with(|setup| *setup) else {
        panic!("CPU {} began before all was ready", cpu::number())
    };
    let [cpus, ..] = info.params;
    let own = u64::from(cpu::number());
    let spaces = setup.spaces[own as usize];
    let mut check = Check::default();
    spaces[0].load();
    match workload {
        WorkloadId::Smp => {
            let [_, _, _, steps, seed, ..] = info.params;
            let mut random = Random::new(seed + own);
            for _ in 0..steps {
                team::answer();
                if spaces[0] != spaces[1] && random.once_in(SPACE_ONCE_IN) {
                    spaces[random.below(2) as usize].load();
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
                team::answer();
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
