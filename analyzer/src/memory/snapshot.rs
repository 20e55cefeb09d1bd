//! Who has the shadow pages at one moment.

use std::{cmp::Reverse, collections::BTreeMap};

use events::{ENTRIES_PER_TABLE, Gfn, Gpa, Hpa, Level, Role, Seq};

use trace::{Record, Sees};

use crate::{
    replay::{AddressMap, MAX_LEVEL, PageInfo, ShadowTables, VmReplay},
    study::{Follow, StudyError},
};

/// Roots and duplicates that are listed. Bounds the memory that a trace takes.
const LISTED: usize = 256;
/// Entries that are read to count the shared pages of all address spaces together.
const MOST_WORK: u64 = 1 << 24;

/// A guest table that several pages shadow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// The frame of the guest's table.
    pub gfn: Gfn,
    /// Role and level of each page that shadows it.
    pub pages: Vec<(Hpa, Role, Level)>,
}

/// What the roots of one guest table have. A root without a guest table is one by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    /// The shadow roots, one for each role, or the PAE root.
    pub roots: Vec<Hpa>,
    /// The guest table in their pages: the guest's CR3; none of a PAE root or without paging.
    pub gfn: Option<Gfn>,
    /// Pages that only these roots lead to, themselves included.
    pub own: u64,
    /// Pages that they share with other address spaces; none if that takes too long to count.
    pub shared: Option<u64>,
}

/// The pages of one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleCount {
    /// Their level.
    pub level: Level,
    /// The word.
    pub role: Role,
    /// What the path to them allows: write, execute, user.
    pub rights: [bool; 3],
    /// How many.
    pub pages: u64,
}

/// The tables at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The record after which it is taken.
    pub seq: Seq,
    /// Pages by level: those that shadow a guest table, and direct ones.
    pub pages: super::growth::Pages,
    /// Pages by level and role, those of most pages first: at most [`LISTED`] roles.
    pub roles: Vec<RoleCount>,
    /// Distinct guest tables that are shadowed.
    pub guest_tables: u64,
    /// Distinct guest frames that leaves map, in frames of 4 KiB.
    pub mapped_frames: Option<u64>,
    /// Leaves whose guest frame no record has given yet: not in `mapped_frames`.
    pub strays: u64,
    /// Guest tables that several pages shadow.
    pub duplicated: u64,
    /// Pages beyond the first of each guest table.
    pub duplicates: u64,
    /// The tables with the most pages.
    pub listed: Vec<Duplicate>,
    /// Address spaces, those with the most pages of their own first.
    pub spaces: Vec<AddressSpace>,
    /// Roots of all address spaces.
    pub roots: u64,
    /// Address spaces with a CR3, those that are not listed included.
    pub with_cr3: u64,
    /// Half of those have at least so many pages of their own.
    pub median_own: Option<u64>,
    /// Pages that one address space leads to.
    pub own: u64,
    /// Pages that several address spaces lead to.
    pub shared: u64,
    /// Pages that no root leads to.
    pub unreached: u64,
}

/// Takes a snapshot just after one record.
#[derive(Debug)]
pub struct At {
    seq: Seq,
    /// The snapshot; none before the record.
    pub snapshot: Option<Snapshot>,
}

impl At {
    /// After the record of this number.
    pub fn new(seq: Seq) -> Self {
        Self {
            seq,
            snapshot: None,
        }
    }

    fn take(&mut self, vm: Option<&VmReplay>) {
        if let (None, Some(vm)) = (&self.snapshot, vm) {
            self.snapshot = Some(Snapshot::of(vm, self.seq));
        }
    }
}

impl Follow for At {
    fn before(&mut self, record: &Record, vm: Option<&VmReplay>) {
        if record.seq() > self.seq {
            self.take(vm);
        }
    }

    fn after(&mut self, _: &Record, _: Option<&VmReplay>) {}

    fn finish(&mut self, vm: Option<&VmReplay>, _: Sees) -> Result<(), StudyError> {
        self.take(vm);
        Ok(())
    }
}

/// Which address spaces lead to a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// Only the address space of this number.
    One(usize),
    Several,
}

impl Snapshot {
    /// The tables as they are now.
    pub fn of(vm: &VmReplay, seq: Seq) -> Self {
        let mut of = Self::with_work(vm, seq, MOST_WORK);
        of.find_mapped(vm.tables());
        of
    }

    /// The same without what takes long: the memory that is mapped, and the shared pages of each
    /// address space.
    pub fn owners(vm: &VmReplay, seq: Seq) -> Self {
        Self::with_work(vm, seq, 0)
    }

    fn with_work(vm: &VmReplay, seq: Seq, work: u64) -> Self {
        let tables = vm.tables();
        let mut of = Self {
            seq,
            guest_tables: tables.guest_tables(),
            ..Self::default()
        };
        for page in tables.pages() {
            let level = usize::from(page.info.level.0.max(1)).min(MAX_LEVEL) - 1;
            if let Some(kinds) = of.pages.get_mut(level) {
                kinds[usize::from(page.info.direct)] += 1;
            }
        }
        of.find_roles(vm);
        of.find_duplicates(tables);
        of.find_owners(vm, work);
        of
    }

    /// A frame counts once, also if leaves of several sizes map it.
    fn find_mapped(&mut self, tables: &ShadowTables) {
        let mut known = 0;
        let mut ranges = Vec::new();
        for (gfn, level, places) in tables.known_leaves() {
            known += places.len() as u64;
            ranges.push([gfn.0, gfn.0.saturating_add(level.pages())]);
        }
        self.strays = tables.totals().leaves.saturating_sub(known);
        self.mapped_frames = Some(union(&mut ranges));
    }

    fn find_roles(&mut self, vm: &VmReplay) {
        let mut roles: BTreeMap<(Level, Role), u64> = BTreeMap::new();
        for page in vm.tables().pages() {
            *roles.entry((page.info.level, page.info.role)).or_default() += 1;
        }
        let roles = roles.into_iter().map(|((level, role), pages)| RoleCount {
            level,
            role,
            rights: role.rights(vm.role_layout()),
            pages,
        });
        self.roles = roles.collect();
        self.roles
            .sort_by_key(|of| (Reverse(of.pages), of.level, of.role));
        self.roles.truncate(LISTED);
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
    fn find_owners(&mut self, vm: &VmReplay, mut work: u64) {
        let tables = vm.tables();
        let mut owners: AddressMap<Hpa, Owner> = AddressMap::default();
        let mut spaces = spaces(vm);
        for (number, space) in spaces.iter().enumerate() {
            for root in &space.roots {
                for table in tables_of(*root, vm) {
                    join(&mut owners, table, Owner::One(number));
                }
            }
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
        for page in tables.pages() {
            match owners.get(&page.info.spt) {
                Some(Owner::One(number)) => {
                    self.own += 1;
                    if let Some(space) = spaces.get_mut(*number) {
                        space.own += 1;
                    }
                }
                Some(Owner::Several) => self.shared += 1,
                None => self.unreached += 1,
            }
        }
        self.roots = spaces.iter().map(|space| space.roots.len() as u64).sum();
        let with_cr3 = spaces.iter().filter(|space| space.gfn.is_some());
        let mut own: Vec<_> = with_cr3.map(|space| space.own).collect();
        own.sort_unstable();
        self.with_cr3 = own.len() as u64;
        self.median_own = own.get(own.len() / 2).copied();
        spaces.sort_by_key(|space| (Reverse(space.own), space.roots.first().copied()));
        spaces.truncate(LISTED);
        for space in &mut spaces {
            space.shared = shared_of(&space.roots, vm, &owners, &mut work);
        }
        self.spaces = spaces;
    }
}

/// Numbers in at least one of some ranges, each from its first number to before its second.
pub(super) fn union(ranges: &mut [[u64; 2]]) -> u64 {
    ranges.sort_unstable();
    let mut counted_to = 0;
    let mut count = 0_u64;
    for [from, to] in ranges {
        count = count.saturating_add(to.saturating_sub(counted_to.max(*from)));
        counted_to = counted_to.max(*to);
    }
    count
}

/// The address spaces of a VM; their pages are not counted yet.
fn spaces(vm: &VmReplay) -> Vec<AddressSpace> {
    let space = |root: Hpa, gfn: Option<Gfn>| AddressSpace {
        roots: vec![root],
        gfn,
        own: 0,
        shared: None,
    };
    let pae = vm.pae_roots();
    let mut spaces: Vec<_> = pae.map(|(root, _)| space(root, None)).collect();
    let mut of_table: BTreeMap<Gfn, usize> = BTreeMap::new();
    for root in vm.table_roots().shadow {
        let page = vm.tables().page(root).map(|page| page.info);
        let gfn = page.filter(|info| !info.direct).map(|info| info.gfn);
        let known = gfn.and_then(|gfn| of_table.get(&gfn).copied());
        if let Some(known) = known.and_then(|number| spaces.get_mut(number)) {
            known.roots.push(root);
            continue;
        }
        if let Some(gfn) = gfn {
            of_table.insert(gfn, spaces.len());
        }
        spaces.push(space(root, gfn));
    }
    spaces
}

/// The first shadow pages of a root.
fn tables_of(root: Hpa, vm: &VmReplay) -> Vec<Hpa> {
    match vm.pdptes(root) {
        Some(pdptes) => pdptes.iter().flatten().copied().collect(),
        None => vec![root],
    }
}

fn join(owners: &mut AddressMap<Hpa, Owner>, page: Hpa, owner: Owner) {
    let before = owners.entry(page).or_insert(owner);
    if *before != owner {
        *before = Owner::Several;
    }
}

/// Shared pages that some roots lead to; none once `work`, in entries that are read, is used up.
fn shared_of(
    roots: &[Hpa],
    vm: &VmReplay,
    owners: &AddressMap<Hpa, Owner>,
    work: &mut u64,
) -> Option<u64> {
    let tables = vm.tables();
    let mut seen: AddressMap<Hpa, ()> = AddressMap::default();
    let first = roots.iter().flat_map(|root| tables_of(*root, vm));
    let mut next: Vec<Hpa> = first.collect();
    let mut shared = 0;
    while let Some(spt) = next.pop() {
        *work = work.checked_sub(1)?;
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
        *work = work.checked_sub(ENTRIES_PER_TABLE as u64)?;
        let links = page.entries().map(|(_, spte)| spte);
        let links = links.filter(|spte| spte.is_shadow_present() && !spte.is_leaf(page.info.level));
        next.extend(links.map(|spte| spte.child()));
    }
    Some(shared)
}

impl AddressSpace {
    /// The guest's CR3, where the roots shadow the guest's table.
    pub fn cr3(&self) -> Option<Gpa> {
        self.gfn.map(|gfn| gfn.gpa(0))
    }
}
