//! The entries of guest tables, each with what became of its shadow.
//!
//! KVM finds a shadow page by the frame of the guest's table and its role. So does this: what is
//! known of an entry outlives the shadow page that held it.

use std::collections::BTreeSet;

use events::{ENTRIES_PER_TABLE, Gva, Hpa};

use super::act::{ActId, FIRST_ACT};
use crate::replay::{AddressMap, PageInfo, VmReplay};

/// Guest tables followed, 2 KiB each: 128 MiB in all.
const MAX_TABLES: usize = 1 << 16;

/// What is known of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No record mapped it.
    Never,
    /// It is there, and was never writable.
    Mapped,
    /// It is there, and writable.
    Writable,
    /// An act removed or weakened it.
    Lost(Loss),
}

impl State {
    /// The act that the entry misses something by.
    pub(super) fn act(self) -> Option<ActId> {
        match self {
            Self::Lost(loss) => Some(loss.act),
            Self::Never | Self::Mapped | Self::Writable => None,
        }
    }
}

/// What removed or weakened an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) act: ActId,
    /// It was a leaf above level 1.
    pub(super) large: bool,
}

/// One entry, packed: the states without an act, then the acts.
#[derive(Clone, Copy, Debug, Default)]
struct Packed(u32);

const NEVER: u32 = 0;
const MAPPED: u32 = 1;
const WRITABLE: u32 = 2;
const LARGE: u32 = 1 << 31;
const _: () = assert!(WRITABLE < FIRST_ACT);

impl Packed {
    fn state(self) -> State {
        match self.0 {
            NEVER => State::Never,
            MAPPED => State::Mapped,
            WRITABLE => State::Writable,
            packed => State::Lost(Loss {
                act: packed & !LARGE,
                large: packed & LARGE != 0,
            }),
        }
    }

    fn of(state: State) -> Self {
        Self(match state {
            State::Never => NEVER,
            State::Mapped => MAPPED,
            State::Writable => WRITABLE,
            State::Lost(Loss { act, large }) => act | if large { LARGE } else { 0 },
        })
    }
}

/// A guest table in one role.
#[derive(Clone, Debug)]
struct Table {
    entries: Box<[Packed; ENTRIES_PER_TABLE]>,
    /// The addresses that it maps, by its first; unknown until a fault shows it.
    base: Option<Gva>,
    /// The act by which a large page became this table.
    split: Option<ActId>,
    /// The shadow page that had it last.
    page: Option<Hpa>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    tables: Vec<Table>,
    /// By frame of the guest's table, and role.
    known: AddressMap<(u64, u64), u32>,
    /// By the shadow page that is there now.
    live: AddressMap<Hpa, u32>,
    /// Shadow pages that wait for their zap, while another has their table.
    obsolete: BTreeSet<Hpa>,
    last: Option<(Hpa, u32)>,
}

/// An entry of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    table: u32,
    index: u16,
}

fn key(page: &PageInfo) -> (u64, u64) {
    let direct = u64::from(page.direct) << 32;
    (page.gfn.0, u64::from(page.role.0) | direct)
}

impl Places {
    /// The entry at `place`; `None` where its page is not known, obsolete, or beyond the bound.
    pub(super) fn at(&mut self, place: Hpa, vm: &VmReplay) -> Option<At> {
        let spt = place.table();
        let index = place.index();
        if let Some((last, table)) = self.last
            && last == spt
        {
            return Some(At { table, index });
        }
        let table = match self.live.get(&spt) {
            Some(table) => *table,
            None => self.find(spt, vm)?,
        };
        self.last = Some((spt, table));
        Some(At { table, index })
    }

    fn find(&mut self, spt: Hpa, vm: &VmReplay) -> Option<u32> {
        if self.is_obsolete(spt) {
            return None;
        }
        let page = &vm.tables().page(spt)?.info;
        let next = u32::try_from(self.tables.len()).ok()?;
        let is_full = self.tables.len() >= MAX_TABLES;
        let table = match self.known.get(&key(page)) {
            Some(table) => *table,
            None if is_full => return None,
            None => {
                self.known.insert(key(page), next);
                self.tables.push(Table {
                    entries: Box::new([Packed::default(); ENTRIES_PER_TABLE]),
                    base: None,
                    split: None,
                    page: None,
                });
                next
            }
        };
        if let Some(of) = self.tables.get_mut(table as usize) {
            of.page = Some(spt);
        }
        self.live.insert(spt, table);
        Some(table)
    }

    /// The shadow page that a new one takes the table from, if it is there still: KVM makes another
    /// only where that one is of an older generation.
    pub(super) fn superseded(&self, new: &PageInfo, vm: &VmReplay) -> Option<Hpa> {
        let table = self.known.get(&key(new))?;
        let old = self.tables.get(*table as usize)?.page?;
        let info = &vm.tables().page(old)?.info;
        (old != new.spt && key(info) == key(new)).then_some(old)
    }

    /// Its entries are no longer those of its table.
    pub(super) fn make_obsolete(&mut self, spt: Hpa) {
        self.forget(spt);
        self.obsolete.insert(spt);
    }

    /// Whether another shadow page has its table.
    pub(super) fn is_obsolete(&self, spt: Hpa) -> bool {
        self.obsolete.contains(&spt)
    }

    /// The shadow page is gone, or is another one from now on.
    pub(super) fn forget(&mut self, spt: Hpa) {
        self.obsolete.remove(&spt);
        self.live.remove(&spt);
        self.last = self.last.filter(|(last, _)| *last != spt);
    }

    fn table(&self, at: At) -> Option<&Table> {
        self.tables.get(at.table as usize)
    }

    pub(super) fn state(&self, at: At) -> State {
        let table = self.table(at);
        let packed = table.and_then(|table| table.entries.get(usize::from(at.index)));
        packed.map_or(State::Never, |packed| packed.state())
    }

    /// Sets it, and gives what it was.
    pub(super) fn set(&mut self, at: At, state: State) -> State {
        let table = self.tables.get_mut(at.table as usize);
        let packed = table.and_then(|table| table.entries.get_mut(usize::from(at.index)));
        let before = packed.map(|packed| std::mem::replace(packed, Packed::of(state)));
        before.map_or(State::Never, Packed::state)
    }

    pub(super) fn split(&self, at: At) -> Option<ActId> {
        self.table(at)?.split
    }

    /// A large page became the table that `at` is in; gives what was known of that before.
    pub(super) fn set_split(&mut self, at: At, act: ActId) -> Option<ActId> {
        self.tables.get_mut(at.table as usize)?.split.replace(act)
    }

    /// The table maps the addresses from `base` on. If it mapped others before, nothing is known of
    /// these: gives the acts that had removed entries of the others.
    pub(super) fn set_base(&mut self, at: At, base: Gva) -> Vec<ActId> {
        let Some(table) = self.tables.get_mut(at.table as usize) else {
            return Vec::new();
        };
        match table.base.replace(base) {
            None => Vec::new(),
            Some(before) if before == base => Vec::new(),
            Some(_) => {
                let none = Box::new([Packed::default(); ENTRIES_PER_TABLE]);
                let entries = std::mem::replace(&mut table.entries, none);
                let lost = entries.iter().filter_map(|packed| packed.state().act());
                lost.chain(table.split.take()).collect()
            }
        }
    }
}
