//! `mixed`: all exercises of one CPU, each with its own addresses and frames.

use abi::{FrameRange, Shares, to_usize};

use crate::check::Check;
use crate::exercises::alias::Alias;
use crate::exercises::flood::{self, Flood};
use crate::exercises::fork::Fork;
use crate::exercises::huge::Huge;
use crate::exercises::protect::Protect;
use crate::exercises::remap::Remap;
use crate::exercises::sweep::Sweep;
use crate::exercises::unsync::{Flush, Unsync};
use crate::ground::Ground;
use crate::random::Random;
use crate::tables::Space;

// Pages and tables of the exercises.
const REMAP: u64 = 32;
const UNSYNC: u64 = 8;
const UNSYNC_TABLES: u64 = 2;
const PROTECT: u64 = 16;
const FORK: u64 = 16;
const ALIASES: u64 = 64;
const SWEEP: u64 = 24;

/// A CPU's exercises.
pub struct Mix {
    spaces: [Space; 2],
    remap: Remap,
    unsync: Unsync,
    protect: Protect,
    flood: Flood,
    fork: Fork,
    huge: Huge,
    alias: Alias,
    sweep: Sweep,
    vanish: Sweep,
}

impl Mix {
    /// Maps all of them in the first space, which is current; the second one shares its tables.
    pub fn new(shares: Shares, spaces: [Space; 2], cpu: u64, seed: u64) -> Self {
        let ground = |region: u64, frames: FrameRange| Ground {
            space: spaces[0],
            base: shares.region(cpu, region),
            frames,
        };
        let mut left = shares.small(cpu);
        let mut small = |frames: u64| {
            let start = left.start;
            assert!(frames <= left.frames, "the CPU's frames are used up");
            left = FrameRange {
                start: start.add_frames(frames),
                frames: left.frames - frames,
            };
            FrameRange { start, frames }
        };
        let discardable = shares.discardable(cpu);
        let unsync_pages = UNSYNC * UNSYNC_TABLES;
        // One region for each exercise; some have several.
        Self {
            spaces,
            remap: Remap::new(ground(0, small(2 * REMAP)), REMAP, seed),
            unsync: Unsync::new(
                ground(1, small(2 * unsync_pages)),
                UNSYNC_TABLES,
                UNSYNC,
                seed,
            ),
            // Instructions cannot be fetched while the host has removed the memslot.
            protect: Protect::new(ground(3, small(PROTECT)), PROTECT, seed, false),
            flood: Flood::new(ground(4, small(flood::FRAMES)), seed),
            fork: Fork::new(ground(8, small(2 * FORK)), FORK, seed),
            huge: Huge::new(ground(9, shares.large(cpu)), 1, seed),
            alias: Alias::new(ground(10, small(1)), ALIASES),
            sweep: Sweep::new(ground(11, small(SWEEP)), SWEEP, 0..0, seed),
            vanish: Sweep::new(
                ground(12, discardable),
                discardable.frames,
                0..discardable.frames,
                seed,
            ),
        }
    }

    /// One random step.
    pub fn step(&mut self, random: &mut Random, check: &mut Check) {
        match random.below(12) {
            0 => self.remap.move_page(random.below(REMAP), random, check),
            1 => {
                let first = random.below(REMAP);
                self.remap.move_batch(first, 4, random, check);
            }
            2 => self.unsync.round(8, Flush::Root, random, check),
            3 => self.unsync.round(8, Flush::Page, random, check),
            4 => self.protect.change(random.below(PROTECT), random, check),
            5 => {
                let stores = random.below(8);
                let here = random.once_in(2);
                self.flood.round(stores, here, random, check);
            }
            6 => self.fork.round(8, random, check),
            7 => self.huge.turn(0, random, check),
            8 => {
                let seed = random.next();
                self.alias.store_all(seed);
                self.alias.check(check);
            }
            9 => {
                let page = random.below(SWEEP);
                self.sweep.use_page(page, random.once_in(2), check);
            }
            10 => {
                let page = random.below(self.vanish.pages());
                self.vanish.use_page(page, random.once_in(2), check);
            }
            _ => self.spaces[to_usize(random.below(2))].load(),
        }
    }

    /// Checks the pages of each exercise.
    pub fn check(&mut self, check: &mut Check) {
        self.remap.check(check);
        self.huge.use_region(0, check);
        self.alias.check(check);
        for page in 0..PROTECT {
            self.protect.use_page(page, check);
        }
        for page in 0..SWEEP {
            self.sweep.use_page(page, false, check);
        }
    }
}
