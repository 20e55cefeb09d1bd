//! Every combination of a leaf entry's bits, each tried by a load, a store and a call: always the
//! same instructions at the same address.

use crate::access::{store, try_call, try_load, try_store};
use crate::check::Check;
use crate::ground::Ground;
use crate::paging::{NO_EXECUTE, PRESENT, USER, WRITABLE};

use super::Values;

/// Offset of the code in the frame: one `ret`.
const CODE: u64 = 64;
const RET: u64 = 0xc3;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// Bits of an entry other than P.
const BITS: [u64; 5] = [ACCESSED, DIRTY, WRITABLE, USER, NO_EXECUTE];
// Bits of a page fault's error code.
const STORE: u64 = 1 << 1;
const BY_USER: u64 = 1 << 2;
const FETCH: u64 = 1 << 4;

/// One page over one frame.
#[derive(Debug)]
pub struct Combine {
    ground: Ground,
    content: u64,
    values: Values,
    /// Number of accesses that had to be refused.
    refused: u64,
}

impl Combine {
    /// Maps the page and writes code to it.
    pub fn new(ground: Ground, seed: u64) -> Self {
        ground.space.map(ground.base, ground.frame(0));
        store(ground.base.add(CODE), RET);
        let mut values = Values::new(seed);
        let content = values.next();
        store(ground.base, content);
        Self {
            ground,
            content,
            values,
            refused: 0,
        }
    }

    /// All combinations for each kind of access. P changes first, or after all others.
    pub fn round(&mut self, present_first: bool, check: &mut Check) {
        let all = 1 << BITS.len();
        for kind in [0, STORE, FETCH] {
            for number in 0..2 * all {
                let (present, others) = match present_first {
                    true => (number % 2, number / 2),
                    false => (number / all, number % all),
                };
                let bits = (0..).zip(BITS).filter(|(bit, _)| others >> bit & 1 == 1);
                let flags = bits.fold(present * PRESENT, |flags, (_, bit)| flags | bit);
                self.try_one(flags, kind, check);
            }
        }
    }

    fn try_one(&mut self, flags: u64, kind: u64, check: &mut Check) {
        let gva = self.ground.base;
        let entry = self.ground.space.entry(gva, 1);
        entry.set_and_invalidate(self.ground.frame(0).0 | flags, gva);
        let lacks = match kind {
            STORE => flags & WRITABLE == 0,
            FETCH => flags & NO_EXECUTE != 0,
            _ => false,
        };
        let expected = if flags & PRESENT == 0 {
            Some(BY_USER | kind)
        } else if flags & USER == 0 || lacks {
            Some(BY_USER | kind | PRESENT)
        } else {
            None
        };
        self.refused += u64::from(expected.is_some());
        let went = match kind {
            STORE => self.store(),
            FETCH => try_call(gva.add(CODE)),
            _ => try_load(gva).map(|found| check.value(0, found, self.content)),
        };
        check.access(0, went, expected);
    }

    fn store(&mut self) -> Result<(), crate::access::Refused> {
        let value = self.values.next();
        try_store(self.ground.base, value).map(|()| self.content = value)
    }

    /// Number of accesses so far that had to be refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}
