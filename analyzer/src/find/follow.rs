//! The records of a VM to mappings.

use std::collections::BTreeMap;

use events::{Gfn, Hpa, Level, PageEvent, Seq, Spte};
use trace::{EntryRow, Record};

use super::{
    Act, Mapping, Moment, Target,
    mapping::Leaf,
    paths::{Path, paths, root_level},
};
use crate::{
    listing::Window,
    replay::{AddressSet, Pdptes, VmReplay},
    study::Follow,
    table::TableError,
};

/// Mappings kept.
const MOST: usize = 1 << 16;
/// Visits that each record adds to what may be spent. Shared tables could make it 512^4 a record.
const EARNED: u64 = 64;
/// What may be spent at once.
const SAVED: u64 = 1 << 24;

/// What may have changed.
enum Changed {
    Nothing,
    /// This entry.
    Place(Hpa),
    /// Any of the mappings.
    All,
    /// Anything: the tables were set from a keyframe.
    Tables,
}

/// When a mapping must have been there to be listed: now and then in this stretch, its ends included.
#[derive(Clone, Debug, Default)]
pub struct Span {
    window: Window,
    /// Of the end of the stretch alone.
    at_end: bool,
    /// The last record before, or the first one within.
    from: Option<Seq>,
    /// The last record within.
    to: Option<Seq>,
}

impl Span {
    /// Anywhere in the stretch.
    pub fn within(window: Window) -> Self {
        Self {
            window,
            ..Self::default()
        }
    }

    /// At the end of the stretch.
    pub fn at_end_of(window: Window) -> Self {
        Self {
            at_end: true,
            ..Self::within(window)
        }
    }

    fn add(&mut self, record: &Record) {
        let seq = record.seq();
        let is_inside = self.window.admits(record);
        match (is_inside, self.to, self.at_end) {
            (true, _, true) => (self.from, self.to) = (Some(seq), Some(seq)),
            (true, None, false) => (self.from, self.to) = (self.from.or(Some(seq)), Some(seq)),
            (true, Some(_), false) => self.to = Some(seq),
            // What was there at the record before the stretch still is when it begins.
            (false, None, _) => self.from = Some(seq),
            (false, Some(_), _) => {}
        }
    }

    fn has(&self, mapping: &Mapping) -> bool {
        let Some(from) = self.from else {
            return self.window.is_whole();
        };
        let to = self.to.unwrap_or(from);
        let is_over = mapping.until.is_some_and(|until| until.seq <= from);
        mapping.from.seq <= to && !is_over
    }
}

/// What was there before a record took effect.
#[derive(Clone, Debug, Default)]
struct Was {
    entry: Option<Spte>,
    pdptes: Option<Pdptes>,
    top: Option<Level>,
    keyframe: Option<Seq>,
    /// Of leaves that go without a record of their own, by place.
    gone: Vec<EntryRow>,
}

/// Every mapping of an address.
#[derive(Clone, Debug)]
pub struct Find {
    target: Target,
    span: Span,
    mappings: Vec<Mapping>,
    /// Leaves that map it now, each with its mappings.
    live: BTreeMap<Hpa, Vec<usize>>,
    /// Shadow pages on the way to them: all, and some that are so no more.
    above: AddressSet<Hpa>,
    was: Was,
    may_spend: u64,
    cut: Option<Seq>,
}

/// The root of a record that may show PDPTEs: of a fault's leaf, or as they were loaded.
fn root_of(record: &Record) -> Option<Hpa> {
    match record {
        Record::Fault(row) => Some(row.root),
        Record::Root(row) => row.keyframe.is_none().then_some(row.root),
        _ => None,
    }
}

/// The PDPTEs that it may change.
fn pdptes(record: &Record, vm: &VmReplay) -> Option<Pdptes> {
    vm.pdptes(root_of(record)?).copied()
}

impl Follow for Find {
    fn before(&mut self, record: &Record, vm: Option<&VmReplay>) {
        self.span.add(record);
        let Some(vm) = vm else { return };
        self.was = Was {
            entry: match record {
                Record::Entry(row) => vm.tables().entry(row.sptep),
                _ => None,
            },
            pdptes: pdptes(record, vm),
            top: root_level(vm),
            keyframe: vm.last_keyframe(),
            gone: match record {
                Record::Host(row) => vm.gone(row),
                _ => Vec::new(),
            },
        };
    }

    fn after(&mut self, record: &Record, vm: Option<&VmReplay>) {
        let Some(vm) = vm else { return };
        if self.cut.is_some() {
            return;
        }
        self.may_spend = self.may_spend.saturating_add(EARNED).min(SAVED);
        self.was.gone.extend(vm.recycled(record));
        match self.changed(record, vm) {
            Changed::Nothing => {}
            Changed::Place(place) => self.look(place, record, vm),
            Changed::All => {
                self.look_at_all(record, vm);
                // It may be a new one.
                if let Some(place) = stored(record) {
                    self.look(place, record, vm);
                }
            }
            Changed::Tables => {
                self.look_at_all(record, vm);
                self.scan(record, vm);
            }
        }
        self.candidates(record, vm);
        if self.may_spend == 0 || self.mappings.len() >= MOST {
            self.cut = Some(record.seq());
        }
    }
}

impl Find {
    /// Nothing was read yet.
    pub fn new(target: Target, span: Span) -> Self {
        Self {
            target,
            span,
            mappings: Vec::new(),
            live: BTreeMap::new(),
            above: AddressSet::default(),
            was: Was::default(),
            may_spend: SAVED,
            cut: None,
        }
    }

    /// Those in the stretch asked for, in the order in which they began.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.mappings.iter().filter(|of| self.span.has(of))
    }

    /// A moment of the stretch that did not come.
    pub fn missing(&self) -> Option<TableError> {
        self.span.window.missing()
    }

    /// The record after which nothing was followed any more: there are too many mappings.
    pub fn cut(&self) -> Option<Seq> {
        self.cut
    }

    fn changed(&self, record: &Record, vm: &VmReplay) -> Changed {
        if vm.last_keyframe() != self.was.keyframe {
            return Changed::Tables;
        }
        if root_level(vm) != self.was.top || !self.was.gone.is_empty() {
            return Changed::All;
        }
        match record {
            Record::Fault(row) => {
                let is_moved = pdptes(record, vm) != self.was.pdptes;
                match row.sptep {
                    _ if is_moved => Changed::All,
                    Some(place) => Changed::Place(place),
                    None => Changed::Nothing,
                }
            }
            Record::Entry(row) => {
                let Some(page) = vm.tables().page(row.sptep.table()) else {
                    // A PDPTE, or of a page that is gone.
                    return Changed::All;
                };
                let level = page.info.level;
                let links = [self.was.entry, Some(row.spte)];
                let is_above = links.into_iter().flatten().any(|spte| {
                    let is_link = spte.is_shadow_present() && !spte.is_leaf(level);
                    is_link && self.above.contains(&spte.child())
                });
                match is_above {
                    true => Changed::All,
                    false => Changed::Place(row.sptep),
                }
            }
            Record::Page(row) => {
                let protects = matches!(row.event, PageEvent::Born | PageEvent::Sync);
                let is_above = self.above.contains(&row.spt);
                match is_above || (protects && self.maps(row.gfn)) {
                    true => Changed::All,
                    false => Changed::Nothing,
                }
            }
            Record::Root(_) if pdptes(record, vm) != self.was.pdptes => Changed::All,
            Record::Host(_) => Changed::All,
            _ => Changed::Nothing,
        }
    }

    /// Whether one of the mappings is of this frame.
    fn maps(&self, gfn: Gfn) -> bool {
        let mappings = self.live.values().flatten();
        let mut mappings = mappings.filter_map(|index| self.mappings.get(*index));
        mappings.any(|mapping| {
            let pages = mapping.level.pages();
            mapping
                .gfn
                .is_some_and(|first| first.0 & !(pages - 1) == gfn.0 & !(pages - 1))
        })
    }

    /// Leaves that the record may have made mappings of without storing them.
    fn candidates(&mut self, record: &Record, vm: &VmReplay) {
        match (self.target, record) {
            // The frame of a leaf from a keyframe may be known only now.
            (Target::Gfn(gfn), Record::Fault(row)) if row.gpa.map(|gpa| gpa.gfn()) == Some(gfn) => {
                for level in 1..=3 {
                    for place in vm.tables().leaves_of(gfn, Level(level)).to_vec() {
                        self.look(place, record, vm);
                    }
                }
            }
            // A table that has the leaf was linked on the way.
            (Target::Gva(gva), Record::Entry(row)) => {
                let page = vm.tables().page(row.sptep.table());
                let on_the_way = page.filter(|page| {
                    page.info.level.index(gva) == Some(row.sptep.index())
                        && vm.tables().child(page, row.spte).is_some()
                });
                if let Some(page) = on_the_way {
                    let steps = vm.tables().walk(page.info.spt, gva).steps;
                    if let Some(step) = steps.last() {
                        let place = Hpa(step.spt.0 | u64::from(step.index) << 3);
                        self.look(place, record, vm);
                    }
                }
            }
            // As above, below a PAE root.
            (Target::Gva(gva), _) if pdptes(record, vm) != self.was.pdptes => {
                let walk = root_of(record).map(|root| vm.walk(root, gva));
                if let Some(step) = walk.and_then(|walk| walk.steps.last().copied()) {
                    let place = Hpa(step.spt.0 | u64::from(step.index) << 3);
                    self.look(place, record, vm);
                }
            }
            _ => {}
        }
    }

    fn spend(&mut self, visits: u64) {
        self.may_spend = self.may_spend.saturating_sub(visits);
    }

    fn look_at_all(&mut self, record: &Record, vm: &VmReplay) {
        self.above.clear();
        let places: Vec<_> = self.live.keys().copied().collect();
        self.spend(places.len() as u64);
        for place in places {
            self.look(place, record, vm);
        }
    }

    /// Every leaf there is.
    fn scan(&mut self, record: &Record, vm: &VmReplay) {
        let tables = vm.tables();
        for page in tables.pages() {
            let level = page.info.level;
            for (index, spte) in page.entries() {
                let leaf = Leaf {
                    spte,
                    level,
                    gfn: page.leaf_gfn(index),
                };
                if spte.is_leaf(level) && self.target.may_be(&leaf, index) {
                    self.look(page.place(index), record, vm);
                }
            }
        }
    }

    /// Ends and begins the mappings of the leaf at `place`, as the tables have it now.
    fn look(&mut self, place: Hpa, record: &Record, vm: &VmReplay) {
        let leaf = Leaf::at(vm.tables(), place);
        let leaf = leaf.filter(|leaf| self.target.may_be(leaf, place.index()));
        let now = leaf.map_or_else(Vec::new, |leaf| self.ways(place, leaf, vm));
        let mine = self.live.remove(&place).unwrap_or_default();
        let mut kept = Vec::new();
        let gone = &self.was.gone;
        let gone = gone.binary_search_by_key(&place, |gone| gone.sptep);
        let gone = gone.ok().and_then(|at| self.was.gone.get(at));
        let mut ended = Moment::of(record, place);
        if let Some(gone) = gone {
            let (cause, by) = (gone.cause, gone.seq);
            ended.act = Act::Gone { cause, by };
        }
        for index in mine {
            let Some(mapping) = self.mappings.get_mut(index) else {
                continue;
            };
            let is_there = now.iter().any(|(path, leaf)| mapping.is(*path, leaf));
            if is_there {
                kept.push(index);
            } else {
                mapping.until = Some(ended);
            }
        }
        for (path, leaf) in now {
            let is_known = kept
                .iter()
                .filter_map(|index| self.mappings.get(*index))
                .any(|mapping| mapping.is(path, &leaf));
            if is_known || self.mappings.len() >= MOST {
                continue;
            }
            kept.push(self.mappings.len());
            self.mappings.push(Mapping {
                sptep: place,
                spte: leaf.spte,
                level: leaf.level,
                gfn: leaf.gfn,
                path,
                cr3: path.and_then(|path| cr3(vm, path.root)),
                from: Moment::of(record, place),
                until: None,
            });
        }
        if !kept.is_empty() {
            self.live.insert(place, kept);
        }
    }

    /// The ways to a leaf that lead to the address looked for; one without a root where a frame
    /// is looked for and no root leads there.
    fn ways(&mut self, place: Hpa, leaf: Leaf, vm: &VmReplay) -> Vec<(Option<Path>, Leaf)> {
        let paths = paths(vm, place, &mut self.above);
        self.spend(paths.visits);
        if paths.more {
            self.may_spend = 0;
        }
        let found = paths.found.into_iter();
        let ways: Vec<_> = found
            .filter(|path| self.target.is_in(path.gva, leaf.level))
            .map(|path| (Some(path), leaf))
            .collect();
        match (ways.is_empty(), self.target) {
            (true, Target::Gfn(_) | Target::Pfn(_)) => vec![(None, leaf)],
            _ => ways,
        }
    }
}

/// The entry that a record stores.
fn stored(record: &Record) -> Option<Hpa> {
    match record {
        Record::Fault(row) => row.sptep,
        Record::Entry(row) => Some(row.sptep),
        _ => None,
    }
}

/// The guest's CR3 on this root, as far as a vCPU is on it now.
pub fn cr3(vm: &VmReplay, root: Hpa) -> Option<events::Gpa> {
    let mut roots = vm.roots().values();
    let current = roots.find(|current| current.root.table() == root.table())?;
    Some(current.cr3)
}
