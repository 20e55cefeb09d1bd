//! Exercises change the guest's tables. Each one knows what its pages must hold and which accesses
//! must be refused, and checks both. Most workloads run one of them in a loop; `mixed` chooses
//! among all.

pub mod alias;
pub mod combine;
pub mod flood;
pub mod fork;
pub mod huge;
pub mod joint;
pub mod protect;
pub mod remap;
pub mod sweep;
pub mod unsync;

/// Values to store, each of them new.
#[derive(Debug)]
pub struct Values {
    seed: u64,
    count: u64,
}

impl Values {
    /// Values of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, count: 0 }
    }

    /// The next one; never zero.
    pub fn next(&mut self) -> u64 {
        self.count += 1;
        abi::value(self.count, self.seed)
    }
}
