//! The sums in order, with their names.

use std::cmp::Reverse;

use events::{Gfn, Gva};
use trace::Meta;

use super::{
    By, PingPong, Top,
    follow::{NO_FUNCTION, UNKNOWN_PAGE, USER_SPACE},
    guest_tables::Levels,
    ranges::{ranges, work},
};
use crate::faults::Sum;

/// The key and name of all code in user space.
pub const IN_USER_SPACE: &str = "(user space)";

/// One key with its sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payer {
    /// The key, for programs: an address or a frame in hexadecimal, a number, or a name.
    pub key: String,
    /// For people.
    pub name: String,
    /// What is known of it besides; may be empty.
    pub about: String,
    /// What it adds up to.
    pub sum: Sum,
    /// What became of it, if it is a guest table.
    pub table: Option<PingPong>,
}

/// Those who pay, in order.
#[derive(Clone, Debug)]
pub struct Rank {
    /// By what.
    pub by: By,
    /// The most expensive first.
    pub payers: Vec<Payer>,
    /// Records that have no key.
    pub keyless: Sum,
    /// Keys that have a sum of their own at most.
    pub keys: usize,
    /// Records of the keys beyond those.
    pub others: Sum,
    /// Events of the guest tables beyond that.
    pub other_tables: Option<PingPong>,
    /// All of them.
    pub all: Sum,
    /// The functions that rips are in, if they have names.
    pub has_symbols: bool,
    /// What became of the guest's tables was counted.
    pub follows_tables: bool,
}

impl Top {
    /// In order.
    pub fn rank(&self, meta: &Meta) -> Rank {
        let mut payers = self.payers(meta);
        let order = |payer: &Payer| {
            let table = payer.table.unwrap_or_default();
            let events = table.protected + table.stores + table.unsync;
            (payer.sum.own_ns(), payer.sum.count, events)
        };
        // By key where all is equal: the sort is stable.
        payers.sort_by_key(|payer| Reverse(order(payer)));
        Rank {
            by: self.question.by,
            payers,
            keyless: *self.sums.keyless(),
            keys: self.question.keys,
            others: *self.sums.others(),
            other_tables: self.tables.others().copied(),
            all: *self.sums.all(),
            has_symbols: !self.question.symbols.is_empty(),
            follows_tables: self.question.follows_tables(),
        }
    }

    fn payers(&self, meta: &Meta) -> Vec<Payer> {
        let sums = self.sums.sorted();
        match self.question.by {
            By::GvaRange => {
                let granule = self.question.granule;
                let work = work(meta, granule);
                let ranges = ranges(&sums, granule, work);
                let payer = |range: &super::ranges::Range| Payer {
                    key: range.from.to_string(),
                    name: range.name(),
                    about: range.place(work),
                    sum: range.sum,
                    table: None,
                };
                ranges.iter().map(payer).collect()
            }
            By::GuestTable => self.table_payers(&sums),
            _ => sums
                .iter()
                .map(|(key, sum)| self.payer(*key, *sum))
                .collect(),
        }
    }

    /// Also the tables that no fault was on.
    fn table_payers(&self, sums: &[(u64, Sum)]) -> Vec<Payer> {
        let mut frames: Vec<_> = sums.iter().map(|(gfn, _)| Gfn(*gfn)).collect();
        let tables = self.tables.sorted();
        let tables = tables.iter().filter(|(_, of)| !of.is_quiet());
        frames.extend(tables.map(|(gfn, _)| *gfn));
        frames.sort();
        frames.dedup();
        let payer = |gfn: Gfn| {
            let sum = sums.binary_search_by_key(&gfn.0, |(key, _)| *key);
            let sum = sum.ok().and_then(|at| sums.get(at)).map(|(_, sum)| *sum);
            let table = self.tables.get(gfn).copied().unwrap_or_default();
            Payer {
                key: gfn.to_string(),
                name: format!("gfn {gfn}"),
                about: level(table.levels),
                sum: sum.unwrap_or_default(),
                table: self.question.follows_tables().then_some(table),
            }
        };
        frames.into_iter().map(payer).collect()
    }

    fn payer(&self, key: u64, sum: Sum) -> Payer {
        let address = format!("{key:#x}");
        let (key, name, about) = match self.question.by {
            By::Rip => {
                let place = self.question.symbols.place(Gva(key));
                (address.clone(), address, place.unwrap_or_default())
            }
            By::Symbol => self.function_name(key),
            By::ShadowPage if key == UNKNOWN_PAGE => {
                return self.plain("(page not known)".to_owned(), sum);
            }
            By::ShadowPage => {
                let Some(page) = self.pages.get(&key) else {
                    return self.plain(key.to_string(), sum);
                };
                let of = match page.direct {
                    true => "direct, from gfn",
                    false => "gfn",
                };
                let about = format!("level {}, {of} {}", page.level.0, page.gfn);
                (key.to_string(), page.spt.to_string(), about)
            }
            By::Slot => (key.to_string(), format!("slot {key}"), String::new()),
            By::Vcpu => (key.to_string(), format!("vCPU {key}"), String::new()),
            By::Cr3 | By::GvaRange | By::GuestTable | By::Cause => return self.plain(address, sum),
        };
        Payer {
            key,
            name,
            about,
            sum,
            table: None,
        }
    }

    fn plain(&self, key: String, sum: Sum) -> Payer {
        Payer {
            name: key.clone(),
            key,
            about: String::new(),
            sum,
            table: None,
        }
    }

    /// Address, name, and nothing else.
    fn function_name(&self, function: u64) -> (String, String, String) {
        let apart = |name: &str| (name.to_owned(), name.to_owned(), String::new());
        match (function, self.question.symbols.name(function)) {
            (_, Some((at, name))) => (at.to_string(), name, String::new()),
            (USER_SPACE, None) => apart(IN_USER_SPACE),
            (NO_FUNCTION, None) => apart("(no symbol)"),
            (other, None) => apart(&other.to_string()),
        }
    }
}

fn level(levels: Levels) -> String {
    match levels.each().count() {
        0 => String::new(),
        1 => format!("level {}", levels.words()),
        _ => format!("levels {}", levels.words()),
    }
}
