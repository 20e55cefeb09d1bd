//! Who has the shadow pages at one moment.

use std::{cmp::Reverse, collections::BTreeMap};

use events::{Gfn, Gpa, Hpa, Level, Role, Seq};
use trace::Record;

use crate::{
    replay::{AddressMap, MAX_LEVEL, PageInfo, ShadowTables, VmReplay},
    study::{Follow, Subject},
};

/// Roots and duplicates that are listed. Bounds the memory that a trace takes.
const LISTED: usize = 256;

/// A guest table that several pages shadow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The frame of the guest's table.
    pub gfn: Gfn,
    /// Role and level of each page that shadows it.
    pub pages: Vec<(Hpa, Role, Level)>,
}

/// What one root has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootShare {
    /// The shadow root, or the PAE root.
    pub root: Hpa,
    /// The guest table in its page: the guest's CR3; none of a PAE root or without paging.
    pub gfn: Option<Gfn>,
    /// Pages that only this root leads to, itself included.
    pub own: u64,
    /// Pages that it shares with other roots.
    pub shared: u64,
}

/// The tables at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The record after which it is taken.
    pub seq: Seq,
    /// Pages by level: those that shadow a guest table, and direct ones.
    pub pages: super::growth::Pages,
    /// Distinct guest tables that are shadowed.
    pub guest_tables: u64,
    /// Distinct guest frames that leaves map, in frames of 4 KiB.
    pub mapped_frames: u64,
    /// Guest tables that several pages shadow.
    pub duplicated: u64,
    /// Pages beyond the first of each guest table.
    pub duplicates: u64,
    /// The tables with the most pages.
    pub listed: Vec<Duplicate>,
    /// Roots, those with the most pages of their own first.
    pub roots: Vec<RootShare>,
    /// All roots, those that are not listed included.
    pub all_roots: u64,
    /// Pages that one root leads to, of all roots.
    pub own: u64,
    /// Pages that several roots lead to.
    pub shared: u64,
    /// Pages that no root leads to.
    pub unreached: u64,
}

/// Takes a snapshot after one record.
#[derive(Debug)]
pub struct At {
    seq: Seq,
    /// The snapshot; none before the record.
    pub snapshot: Option<Snapshot>,
}

impl At {
    /// Of a VM, after the record of this number.
    pub fn new(_: &Subject<'_>, seq: Seq) -> Self {
        Self {
            seq,
            snapshot: None,
        }
    }
}

impl Follow for At {
    fn after(&mut self, record: &Record, vm: Option<&VmReplay>) {
        if let (true, None, Some(vm)) = (record.seq() >= self.seq, &self.snapshot, vm) {
            self.snapshot = Some(Snapshot::of(vm, record.seq()));
        }
    }

    fn finish(
        &mut self,
        vm: Option<&VmReplay>,
        _: trace::Sees,
    ) -> Result<(), crate::study::StudyError> {
        // The moment is after the last record.
        if let (None, Some(vm)) = (&self.snapshot, vm) {
            self.snapshot = Some(Snapshot::of(vm, self.seq));
        }
        Ok(())
    }
}

/// Which roots lead to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    One(Hpa),
    Several,
}

impl Snapshot {
    /// The tables as they are now.
    pub fn of(vm: &VmReplay, seq: Seq) -> Self {
        let tables = vm.tables();
        let mut of = Self {
            seq,
            guest_tables: tables.guest_tables(),
            ..Self::default()
        };
        let leaves = tables.known_leaves();
        let frames = leaves.map(|(_, level, _)| level.pages());
        of.mapped_frames = frames.fold(0, u64::saturating_add);
        for page in tables.pages() {
            let level = usize::from(page.info.level.0.max(1)).min(MAX_LEVEL) - 1;
            if let Some(kinds) = of.pages.get_mut(level) {
                kinds[usize::from(page.info.direct)] += 1;
            }
        }
        of.find_duplicates(tables);
        of.find_owners(vm);
        of
    }

    fn find_duplicates(&mut self, tables: &ShadowTables) {
        let mut tables_of: BTreeMap<Gfn, Vec<&PageInfo>> = BTreeMap::new();
        for page in tables.pages().filter(|page| !page.info.direct) {
            tables_of.entry(page.info.gfn).or_default().push(&page.info);
        }
        let several = tables_of.into_iter().filter(|(_, pages)| pages.len() > 1);
        let mut several: Vec<_> = several.collect();
        self.duplicated = several.len() as u64;
        self.duplicates = several
            .iter()
            .map(|(_, pages)| pages.len() as u64 - 1)
            .sum();
        several.sort_by_key(|(gfn, pages)| (Reverse(pages.len()), *gfn));
        let listed = several.into_iter().take(LISTED).map(|(gfn, mut pages)| {
            pages.sort_by_key(|page| page.spt);
            let pages = pages.iter().take(LISTED);
            Duplicate {
                gfn,
                pages: pages
                    .map(|page| (page.spt, page.role, page.level))
                    .collect(),
            }
        });
        self.listed = listed.collect();
    }

    /// From the top down: what a page's parents lead to is led to by their roots.
    fn find_owners(&mut self, vm: &VmReplay) {
        let tables = vm.tables();
        let mut owners: AddressMap<Hpa, Owner> = AddressMap::default();
        let mut roots: Vec<(Hpa, Option<Gfn>)> = Vec::new();
        for (root, pdptes) in vm.pae_roots() {
            roots.push((root, None));
            for table in pdptes.iter().flatten() {
                join(&mut owners, *table, Owner::One(root));
            }
        }
        for root in vm.table_roots().shadow {
            let page = tables.page(root).map(|page| page.info);
            let gfn = page.filter(|info| !info.direct).map(|info| info.gfn);
            roots.push((root, gfn));
            join(&mut owners, root, Owner::One(root));
        }
        let mut pages = tables.sorted_pages();
        pages.sort_by_key(|page| Reverse(page.info.level));
        for page in pages {
            for place in tables.parents(page.info.spt) {
                let parent = tables.page(place.table());
                let parent = parent.filter(|parent| parent.info.level > page.info.level);
                let owner = parent.and_then(|parent| owners.get(&parent.info.spt).copied());
                if let Some(owner) = owner {
                    join(&mut owners, page.info.spt, owner);
                }
            }
        }
        let mut own: AddressMap<Hpa, u64> = AddressMap::default();
        for page in tables.pages() {
            match owners.get(&page.info.spt) {
                Some(Owner::One(root)) => {
                    self.own += 1;
                    *own.entry(*root).or_default() += 1;
                }
                Some(Owner::Several) => self.shared += 1,
                None => self.unreached += 1,
            }
        }
        self.all_roots = roots.len() as u64;
        let own = |root: &Hpa| own.get(root).copied().unwrap_or_default();
        roots.sort_by_key(|(root, _)| (Reverse(own(root)), *root));
        let listed = roots.into_iter().take(LISTED).map(|(root, gfn)| RootShare {
            root,
            gfn,
            own: own(&root),
            shared: shared_of(root, vm, &owners),
        });
        self.roots = listed.collect();
    }
}

fn join(owners: &mut AddressMap<Hpa, Owner>, page: Hpa, owner: Owner) {
    let before = owners.entry(page).or_insert(owner);
    if *before != owner {
        *before = Owner::Several;
    }
}

/// Shared pages that a root leads to.
fn shared_of(root: Hpa, vm: &VmReplay, owners: &AddressMap<Hpa, Owner>) -> u64 {
    let tables = vm.tables();
    let mut seen: AddressMap<Hpa, ()> = AddressMap::default();
    let mut next: Vec<Hpa> = match vm.pdptes(root) {
        Some(pdptes) => pdptes.iter().flatten().copied().collect(),
        None => vec![root],
    };
    let mut shared = 0;
    while let Some(spt) = next.pop() {
        let Some(page) = tables.page(spt) else {
            continue;
        };
        if seen.insert(spt, ()).is_some() {
            continue;
        }
        shared += u64::from(owners.get(&spt) == Some(&Owner::Several));
        if page.info.level == Level(1) {
            continue;
        }
        let links = page.entries().map(|(_, spte)| spte);
        let links = links.filter(|spte| spte.is_shadow_present() && !spte.is_leaf(page.info.level));
        next.extend(links.map(|spte| spte.child()));
    }
    shared
}

impl RootShare {
    /// The guest's CR3, where the root shadows the guest's table.
    pub fn cr3(&self) -> Option<Gpa> {
        self.gfn.map(|gfn| gfn.gpa(0))
    }
}
