//! Revokes and grants permissions.

use abi::to_usize;

use crate::access::{Refused, try_call, try_load, try_store};
use crate::arena;
use crate::check::Check;
use crate::ground::Ground;
use crate::paging::{NO_EXECUTE, PRESENT, USER, WRITABLE};
use crate::random::Random;

use super::Values;

/// Offset of the code in each frame: one `ret`.
const CODE: u64 = 64;
const RET: u64 = 0xc3;

// Bits of a page fault's error code.
const STORE: u64 = 1 << 1;
const BY_USER: u64 = 1 << 2;
const FETCH: u64 = 1 << 4;

/// Pages with individual permissions, one frame each.
#[derive(Debug)]
pub struct Protect {
    ground: Ground,
    /// The flags of each page's entry.
    flags: &'static mut [u64],
    content: &'static mut [u64],
    values: Values,
    /// Whether pages are called. Instructions cannot be fetched where the host may remove the
    /// memory.
    calls: bool,
    /// Number of accesses that had to be refused.
    refused: u64,
}

impl Protect {
    /// Maps the pages with all permissions.
    pub fn new(ground: Ground, pages: u64, seed: u64, calls: bool) -> Self {
        let frames = (0..pages).map(|page| ground.frame(page));
        ground.space.map_run(ground.base, frames);
        let exercise = Self {
            ground,
            flags: arena::take(pages),
            content: arena::take(pages),
            values: Values::new(seed),
            calls,
            refused: 0,
        };
        exercise.flags.fill(PRESENT | WRITABLE | USER);
        exercise
    }

    /// Writes code to the pages, which still have all permissions.
    pub fn write_code(&self) {
        for page in 0..self.flags.len() as u64 {
            crate::access::store(self.ground.gva(page).add(CODE), RET);
        }
    }

    /// Number of pages.
    pub fn pages(&self) -> u64 {
        self.flags.len() as u64
    }

    /// Sets random permissions of `page`, with INVLPG, and tries each access.
    pub fn change(&mut self, page: u64, random: &mut Random, check: &mut Check) {
        let mut flags = PRESENT | WRITABLE | USER;
        for (flag, times) in [(WRITABLE, 2), (USER, 6), (PRESENT, 8)] {
            if random.once_in(times) {
                flags &= !flag;
            }
        }
        if random.once_in(2) {
            flags |= NO_EXECUTE;
        }
        self.flags[to_usize(page)] = flags;
        let gva = self.ground.gva(page);
        let frame = self.ground.frame(page);
        let entry = self.ground.space.entry(gva, 1);
        entry.set_and_invalidate(frame.0 | flags, gva);
        self.use_page(page, check);
    }

    /// Tries a store, a load and a call.
    pub fn use_page(&mut self, page: u64, check: &mut Check) {
        let (at, gva) = (to_usize(page), self.ground.gva(page));
        let value = self.values.next();
        let stored = try_store(gva, value);
        if stored.is_ok() {
            self.content[at] = value;
        }
        self.check_access(page, stored, WRITABLE, STORE, check);
        match try_load(gva) {
            Ok(found) => {
                self.check_access(page, Ok(()), 0, 0, check);
                check.value(page, found, self.content[at]);
            }
            Err(refused) => self.check_access(page, Err(refused), 0, 0, check),
        }
        if self.calls {
            self.check_access(page, try_call(gva.add(CODE)), NO_EXECUTE, FETCH, check);
        }
    }

    /// Checks the result of an access that needs `permission`; `kind` is its bit of the error code.
    fn check_access(
        &mut self,
        page: u64,
        found: Result<(), Refused>,
        permission: u64,
        kind: u64,
        check: &mut Check,
    ) {
        let flags = self.flags[to_usize(page)];
        let lacks = match permission {
            NO_EXECUTE => flags & NO_EXECUTE != 0,
            WRITABLE => flags & WRITABLE == 0,
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
        check.access(page, found, expected);
    }

    /// Number of accesses so far that had to be refused.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}
