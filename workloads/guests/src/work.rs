//! The work of `linear` and `demand` at CPL3: touch, (write,) check.
//!
//! There are no other accesses to the work range: with `write` each page gets one store, in the
//! phase `touch`, and one load, in the phase `check`.

use abi::layout::WORK;
use abi::{BootInfo, Order, Pattern, Phase, ResultCode, to_usize, value};

use crate::check::Check;
use crate::{access, call};

/// Runs the passes and reports.
pub fn run(info: &BootInfo) -> ! {
    let [pages, pattern, stride, seed, write, ..] = info.params;
    let Some(&pattern) = Pattern::ALL.get(to_usize(pattern)) else {
        call::done(ResultCode::BadBootInfo, &[]);
    };
    let order = Order::new(pages, pattern, stride, seed);

    call::mark(Phase::Touch);
    if write == 1 {
        store_all(order, seed);
    } else {
        let mut fresh = Check::default();
        for page in order.clone() {
            fresh.fresh(page, load(page));
        }
        if fresh.is_bad() {
            fresh.finish();
        }
        call::mark(Phase::Write);
        store_all(order, seed);
    }

    call::mark(Phase::Check);
    let mut check = Check::default();
    for page in 0..pages {
        check.value(page, load(page), value(page, seed));
    }
    check.finish()
}

fn store_all(order: impl Iterator<Item = u64>, seed: u64) {
    for page in order {
        store(page, value(page, seed));
    }
}

/// Stores to the first 8 bytes of a page. A page outside the work range faults, which the kernel
/// reports.
pub fn store(page: u64, value: u64) {
    access::store(WORK.add_pages(page), value);
}

fn load(page: u64) -> u64 {
    access::load(WORK.add_pages(page))
}
