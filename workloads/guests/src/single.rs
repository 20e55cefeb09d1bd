//! The workloads with one CPU: each runs one exercise in a loop.

use abi::layout::{HOST_PAGE, WORK};
use abi::{BootInfo, HostPage, Order, Pattern, Phase, ResultCode, WorkloadId, to_usize};

use crate::check::Check;
use crate::exercises::alias::Alias;
use crate::exercises::combine::Combine;
use crate::exercises::flood::Flood;
use crate::exercises::fork::Fork;
use crate::exercises::huge::Huge;
use crate::exercises::protect::Protect;
use crate::exercises::remap::Remap;
use crate::exercises::sweep::Sweep;
use crate::exercises::unsync::{Flush, Unsync};
use crate::ground::Ground;
use crate::random::Random;
use crate::tables::{self, Space};
use crate::{access, call, micro, spaces};

/// Runs the workload of `info`; parameters are in the catalogue's order.
pub fn run(workload: WorkloadId, info: &BootInfo) -> ! {
    tables::start();
    call::mark(Phase::Map);
    let ground = Ground {
        space: Space::BOOT,
        base: WORK,
        frames: info.work,
    };
    let mut check = Check::default();
    match workload {
        WorkloadId::Remap => remap(ground, info, &mut check),
        WorkloadId::Switch => spaces::switch(info, &mut check),
        WorkloadId::Fork => fork(ground, info, &mut check),
        WorkloadId::Unsync => unsync(ground, info, &mut check),
        WorkloadId::Flood => flood(ground, info, &mut check),
        WorkloadId::Protect => protect(ground, info, &mut check),
        WorkloadId::Huge => huge(ground, info, &mut check),
        WorkloadId::Alias => alias(ground, info, &mut check),
        WorkloadId::Recycle => spaces::recycle(info, &mut check),
        WorkloadId::Reclaim => reclaim(ground, info, &mut check),
        WorkloadId::Dirty => dirty(ground, info, &mut check),
        WorkloadId::Memslot => memslot(ground, info, &mut check),
        WorkloadId::Micro => micro::run(ground, info, &mut check),
        WorkloadId::Access => access(ground, info, &mut check),
        _ => call::done(ResultCode::BadBootInfo, &[]),
    }
    check.finish()
}

fn remap(ground: Ground, info: &BootInfo, check: &mut Check) {
    let [pages, rounds, batch, seed, ..] = info.params;
    let mut random = Random::new(seed);
    let mut remap = Remap::new(ground, pages, seed);
    call::mark(Phase::Work);
    for round in 0..rounds {
        if batch == 1 {
            for page in Order::new(pages, Pattern::Random, 0, seed + round) {
                remap.move_page(page, &mut random, check);
            }
        } else {
            for first in (0..pages).step_by(to_usize(batch)) {
                remap.move_batch(first, batch, &mut random, check);
            }
        }
    }
    call::mark(Phase::Check);
    remap.check(check);
}

fn fork(ground: Ground, info: &BootInfo, check: &mut Check) {
    let [pages, rounds, writes, seed, ..] = info.params;
    let mut random = Random::new(seed);
    let mut fork = Fork::new(ground, pages, seed);
    call::mark(Phase::Work);
    for _ in 0..rounds {
        fork.round(writes, &mut random, check);
    }
}

fn unsync(ground: Ground, info: &BootInfo, check: &mut Check) {
    let [tables, pages, rounds, flush, seed, ..] = info.params;
    let mut random = Random::new(seed);
    let mut unsync = Unsync::new(ground, tables, pages, seed);
    call::mark(Phase::Work);
    for _ in 0..rounds {
        let flush = match flush {
            0 => Flush::Root,
            1 => Flush::Page,
            _ if random.once_in(2) => Flush::Root,
            _ => Flush::Page,
        };
        unsync.round(4, flush, &mut random, check);
    }
}

fn flood(ground: Ground, info: &BootInfo, check: &mut Check) {
    let [stores, rounds, via, seed, ..] = info.params;
    let mut random = Random::new(seed);
    let mut flood = Flood::new(ground, seed);
    call::mark(Phase::Work);
    for _ in 0..rounds {
        let here = via == 1;
        flood.round(stores, here, &mut random, check);
    }
}

fn protect(ground: Ground, info: &BootInfo, check: &mut Check) {
    let [pages, rounds, seed, ..] = info.params;
    let mut random = Random::new(seed);
    let mut protect = Protect::new(ground, pages, seed, true);
    call::mark(Phase::Work);
    protect.write_code();
    for round in 0..rounds {
        for page in Order::new(pages, Pattern::Random, 0, seed + round) {
            protect.change(page, &mut random, check);
        }
    }
    call::mark(Phase::Check);
    for page in 0..protect.pages() {
        protect.use_page(page, check);
    }
    check.refusals(access::refusals(), protect.refused());
}

fn access(ground: Ground, info: &BootInfo, check: &mut Check) {
    let [rounds, order, seed, ..] = info.params;
    let mut combine = Combine::new(ground, seed);
    call::mark(Phase::Work);
    for _ in 0..rounds {
        combine.round(order == 1, check);
    }
    check.refusals(access::refusals(), combine.refused());
}

fn huge(ground: Ground, info: &BootInfo, check: &mut Check) {
    let [regions, rounds, _backing, seed, prevent, ..] = info.params;
    let mut random = Random::new(seed);
    let mut huge = Huge::new(ground, regions, seed);
    call::mark(Phase::Work);
    match prevent {
        0 => {}
        1 => return (0..regions).for_each(|region| huge.split_and_fill(region, check)),
        3 => return huge.check_tables(regions, check),
        _ => return huge_until(&mut huge, regions, prevent == 4, check),
    }
    for region in 0..regions {
        huge.use_region(region, check);
    }
    for _ in 0..rounds {
        for region in 0..regions {
            if random.once_in(2) {
                huge.turn(region, &mut random, check);
            }
        }
    }
    call::mark(Phase::Check);
    for region in 0..regions {
        huge.use_region(region, check);
    }
}

/// Uses all regions; with `logged` until dirty logging has begun and two passes are over.
fn huge_until(huge: &mut Huge, regions: u64, logged: bool, check: &mut Check) {
    const PASSES: u64 = 4;
    loop {
        for region in 0..regions {
            huge.use_region(region, check);
        }
        if !logged || host_passes() >= PASSES || check.is_bad() {
            break;
        }
    }
}

fn alias(ground: Ground, info: &BootInfo, check: &mut Check) {
    let [aliases, seed, ..] = info.params;
    let mut alias = Alias::new(ground, aliases);
    call::mark(Phase::Touch);
    alias.store_all(seed);
    call::mark(Phase::Check);
    alias.check(check);
}

fn reclaim(ground: Ground, info: &BootInfo, check: &mut Check) {
    let [pages, passes, seed, ..] = info.params;
    sweep(
        ground,
        [pages, passes, seed],
        Pattern::Random,
        pages / 2,
        check,
    );
}

fn dirty(ground: Ground, info: &BootInfo, check: &mut Check) {
    let [pages, passes, _clear, _toggle, pattern, seed, ..] = info.params;
    let Some(&pattern) = Pattern::ALL.get(to_usize(pattern)) else {
        call::done(ResultCode::BadBootInfo, &[]);
    };
    sweep(ground, [pages, passes, seed], pattern, 0, check);
}

fn memslot(ground: Ground, info: &BootInfo, check: &mut Check) {
    let [pages, passes, seed, ..] = info.params;
    sweep(ground, [pages, passes, seed], Pattern::Random, 0, check);
}

/// Passes over the pages until the host's actors have finished enough of their passes.
fn sweep(
    ground: Ground,
    [pages, passes, seed]: [u64; 3],
    pattern: Pattern,
    vanish: u64,
    check: &mut Check,
) {
    const STRIDE: u64 = 8;
    let mut random = Random::new(seed);
    let mut sweep = Sweep::new(ground, pages, 0..vanish, seed);
    call::mark(Phase::Work);
    let mut round = 0;
    loop {
        for page in Order::new(pages, pattern, STRIDE, seed + round) {
            sweep.use_page(page, random.once_in(2), check);
        }
        round += 1;
        if host_passes() >= passes || check.is_bad() {
            break;
        }
    }
    call::mark(Phase::Check);
    for page in 0..sweep.pages() {
        sweep.use_page(page, false, check);
    }
}

/// Passes that the host's actors have finished.
fn host_passes() -> u64 {
    access::load(abi::Gva(
        HOST_PAGE.0 + core::mem::offset_of!(HostPage, passes) as u64,
    ))
}
