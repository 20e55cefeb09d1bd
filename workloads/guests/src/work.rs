//! The work at CPL3, the same for every way of mapping: touch, (write,) check.
//!
//! No access to the work range is made but the ones described: with `write`, the first
//! touch of each page is its one store, and the check its one load.

use abi::layout::WORK;
use abi::{BootInfo, Order, Pattern, Phase, ResultCode, value};

use crate::call;

/// Runs the passes and reports.
pub fn run(info: &BootInfo) -> ! {
    let [pages, pattern, stride, seed, write, ..] = info.params;
    let Some(&pattern) = Pattern::ALL.get(pattern as usize) else {
        call::done(ResultCode::BadBootInfo, &[]);
    };
    let order = Order::new(pages, pattern, stride, seed);

    call::mark(Phase::Touch);
    if write == 1 {
        store_all(order, seed);
    } else {
        let fresh = load_all(order.clone(), |_| 0);
        if fresh.bad > 0 {
            call::done(ResultCode::NotZero, &fresh.numbers());
        }
        call::mark(Phase::Write);
        store_all(order, seed);
    }

    call::mark(Phase::Check);
    let found = load_all(0..pages, |page| value(page, seed));
    let code = if found.bad == 0 {
        ResultCode::Ok
    } else {
        ResultCode::WrongValue
    };
    call::done(code, &found.numbers())
}

fn store_all(order: impl Iterator<Item = u64>, seed: u64) {
    for page in order {
        store(page, value(page, seed));
    }
}

/// What a pass of loads found.
#[derive(Default)]
struct Found {
    pages: u64,
    first_bad: u64,
    found: u64,
    expected: u64,
    bad: u64,
}

impl Found {
    /// In the order that [`ResultCode::WrongValue`] documents.
    fn numbers(&self) -> [u64; 5] {
        [
            self.pages,
            self.first_bad,
            self.found,
            self.expected,
            self.bad,
        ]
    }
}

fn load_all(order: impl Iterator<Item = u64>, expected: impl Fn(u64) -> u64) -> Found {
    let mut result = Found::default();
    for page in order {
        let (found, expected) = (load(page), expected(page));
        result.pages += 1;
        if found != expected {
            if result.bad == 0 {
                result = Found {
                    first_bad: page,
                    found,
                    expected,
                    ..result
                };
            }
            result.bad += 1;
        }
    }
    result
}

fn address(page: u64) -> *mut u64 {
    core::ptr::with_exposed_provenance_mut(WORK.add_pages(page).0 as usize)
}

/// Stores to the first 8 bytes of a page of the work range.
pub fn store(page: u64, value: u64) {
    // SAFETY: the work range belongs to no Rust object; a page outside it faults, and the
    // kernel reports that.
    unsafe { address(page).write_volatile(value) };
}

fn load(page: u64) -> u64 {
    // SAFETY: as in `store`.
    unsafe { address(page).read_volatile() }
}
