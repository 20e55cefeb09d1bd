//! Reading the tables: translation, and what a root maps.

use events::{Gva, Hpa, Level, Pfn, Spte};

use super::{FrameOrder, ShadowPage, ShadowTables, VmReplay, pae};

/// One entry on the way from a root to a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// Level of the table.
    pub level: Level,
    /// The table.
    pub spt: Hpa,
    /// Which of its entries.
    pub index: u16,
    /// The entry.
    pub spte: Spte,
    /// It is in a PAE root, which is no shadow page.
    pub is_pdpte: bool,
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The 4 KiB frame of the address.
    pub pfn: Pfn,
    /// The leaf entry.
    pub spte: Spte,
    /// Level of the table that holds it.
    pub level: Level,
}

/// The way of one address through the shadow tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Where it began.
    pub root: Hpa,
    /// The entries read, from the root on; the last is the leaf or the one that ends the walk.
    pub steps: Vec<Step>,
    /// The leaf, if there is one.
    pub mapping: Option<Mapping>,
}

/// Sign-extends an address of a root's tables.
pub fn canonical(gva: u64, root: Level) -> Gva {
    let bits = match root.0 {
        4 => 48,
        5 => 57,
        _ => return Gva(gva),
    };
    let shift = 64 - bits;
    Gva(((gva << shift).cast_signed() >> shift).cast_unsigned())
}

impl ShadowTables {
    /// Translates `gva` from `root`.
    pub fn walk(&self, root: Hpa, gva: Gva) -> Walk {
        let mut walk = Walk {
            root,
            steps: Vec::new(),
            mapping: None,
        };
        let mut page = self.page(root.table());
        while let Some(table) = page {
            let level = table.info.level;
            let Some(index) = level.index(gva) else { break };
            let spte = table.entry(index);
            walk.steps.push(Step {
                level,
                spt: table.info.spt,
                index,
                spte,
                is_pdpte: false,
            });
            if spte.is_leaf(level) {
                let within = (gva.0 >> 12) & (level.pages() - 1);
                walk.mapping = Some(Mapping {
                    pfn: Pfn(spte.pfn().0 | within),
                    spte,
                    level,
                });
                break;
            }
            page = self.child(table, spte);
        }
        walk
    }

    /// The table that a link points to, if it is below.
    pub fn child(&self, page: &ShadowPage, spte: Spte) -> Option<&ShadowPage> {
        if !spte.is_shadow_present() || spte.is_leaf(page.info.level) {
            return None;
        }
        self.page(spte.child())
            .filter(|child| child.info.level < page.info.level)
    }
}

/// Where the tables of a VM begin, each list by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// Shadow pages: those of the highest level that nothing points to. Below level 4 they are no
    /// roots: they are below PAE roots that no record shows.
    pub shadow: Vec<Hpa>,
    /// PAE roots, which are no shadow pages.
    pub pae: Vec<Hpa>,
    /// Pages of lower levels that nothing points to.
    pub orphans: usize,
}

impl Roots {
    /// Shadow pages first.
    pub fn all(&self) -> Vec<Hpa> {
        self.shadow.iter().chain(&self.pae).copied().collect()
    }
}

/// The lowest level of a root that is a shadow page: 64-bit paging.
pub const LOWEST_ROOT: Level = Level(4);

impl VmReplay {
    /// Where the tables begin.
    pub fn table_roots(&self) -> Roots {
        let tables = self.tables();
        let pae: Vec<Hpa> = self.pae_roots().map(|(root, _)| root).collect();
        let mut below: Vec<Hpa> = self
            .pae_roots()
            .flat_map(|(_, tables)| tables.iter().flatten().copied())
            .collect();
        below.sort();
        let top = tables.pages().map(|page| page.info.level).max();
        // All tables of a VM that has run without 64-bit paging only are below PAE roots.
        let top = top.filter(|top| pae.is_empty() || *top >= LOWEST_ROOT);
        let mut roots = Roots {
            pae,
            ..Roots::default()
        };
        for page in tables.pages() {
            let spt = page.info.spt;
            if !tables.parents(spt).is_empty() || below.binary_search(&spt).is_ok() {
                continue;
            }
            if Some(page.info.level) == top {
                roots.shadow.push(spt);
            } else {
                roots.orphans += 1;
            }
        }
        roots.shadow.sort();
        roots
    }

    /// Translates `gva` from `root`, a shadow page or a PAE root.
    pub fn walk(&self, root: Hpa, gva: Gva) -> Walk {
        let Some(pdptes) = self.pdptes(root) else {
            let page = self.tables().page(root.table());
            if page.is_some_and(|page| !spans(page, gva)) {
                return Walk {
                    root,
                    steps: Vec::new(),
                    mapping: None,
                };
            }
            return self.tables().walk(root, gva);
        };
        let index = pae::index(gva.0);
        let table = pdptes.get(usize::from(index)).copied().flatten();
        let mut walk = Walk {
            root,
            steps: vec![Step {
                level: pae::LEVEL,
                spt: root.table(),
                index,
                spte: pae::pdpte(table),
                is_pdpte: true,
            }],
            mapping: None,
        };
        if let Some(child) = self.pdpte_table(table) {
            let below = self.tables().walk(child.info.spt, gva);
            walk.steps.extend(below.steps);
            walk.mapping = below.mapping;
        }
        walk
    }

    /// What roots map, one after the other: for all of them within one bound of work and memory.
    pub fn ranges(&self) -> RangesOf<'_> {
        RangesOf {
            vm: self,
            visits: 0,
            runs: 0,
        }
    }

    /// The shadow page that a PDPTE points to, if it exists and is below.
    pub fn pdpte_table(&self, table: Option<Hpa>) -> Option<&ShadowPage> {
        let page = self.tables().page(table?)?;
        (page.info.level < pae::LEVEL).then_some(page)
    }
}

/// The first address that a page translates by itself: of a direct page below level 4, which
/// a guest without paging runs on, that of its frame.
pub fn first_gva(page: &ShadowPage) -> u64 {
    match page.info.direct && page.info.level < LOWEST_ROOT {
        true => page.info.gfn.0 << 12,
        false => 0,
    }
}

/// Whether an address can be translated from this page on.
fn spans(page: &ShadowPage, gva: Gva) -> bool {
    let level = page.info.level;
    if !page.info.direct || level >= LOWEST_ROOT {
        return true;
    }
    // A page has 512 entries.
    let bytes = level.pages() << 21;
    gva.0.wrapping_sub(first_gva(page)) < bytes
}

/// Adjoining leaves of one level with the same rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First address.
    pub gva: Gva,
    /// Leaf entries.
    pub entries: u64,
    /// Level of the leaves.
    pub level: Level,
    /// The first leaf.
    pub first: Spte,
    /// Their frames.
    pub frames: FrameOrder,
    last: Spte,
    end: u64,
}

impl Run {
    /// First address past the run, not sign-extended past the lower half.
    pub fn end(&self) -> Gva {
        Gva(self.end)
    }

    /// Its length in 4 KiB pages.
    pub fn pages(&self) -> u64 {
        self.entries.saturating_mul(self.level.pages())
    }
}

/// What a root maps, as runs by address.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    /// The runs.
    pub runs: Vec<Run>,
    /// These are not all: see [`RangesOf`].
    pub cut: bool,
}

/// Entries visited at most: 512 GiB mapped by 4 KiB pages. Tables that share all tables below make
/// it 512^5, and roots that share theirs as often as there are roots.
const MAX_VISITS: u64 = 128 << 20;
/// What a table costs, in entries: those that are empty are looked at too.
const TABLE: u64 = 64;
/// Runs listed at most.
pub const MAX_RUNS: usize = 1 << 18;

/// What the roots of a VM map. What they share is visited for each of them, so there is a bound for
/// all together: of what is past it, the ranges are cut.
#[derive(Debug)]
pub struct RangesOf<'a> {
    vm: &'a VmReplay,
    visits: u64,
    runs: usize,
}

impl RangesOf<'_> {
    /// What `root`, a shadow page or a PAE root, maps.
    pub fn root(&mut self, root: Hpa) -> Ranges {
        let mut ranges = Ranges::default();
        match self.vm.pdptes(root) {
            Some(pdptes) => {
                for (number, table) in (0_u64..).zip(pdptes) {
                    if let Some(page) = self.vm.pdpte_table(*table) {
                        self.visit(&mut ranges, page, number << 30, pae::LEVEL);
                    }
                }
            }
            None => {
                if let Some(page) = self.vm.tables().page(root.table()) {
                    self.visit(&mut ranges, page, first_gva(page), page.info.level);
                }
            }
        }
        ranges
    }

    fn visit(&mut self, ranges: &mut Ranges, page: &ShadowPage, base: u64, root: Level) {
        let level = page.info.level;
        if level.0 > 5 || level.0 == 0 {
            return;
        }
        let tables = self.vm.tables();
        let span = level.pages() << 12;
        self.visits += TABLE;
        for (index, spte) in page.entries() {
            if self.visits >= MAX_VISITS || self.runs >= MAX_RUNS {
                ranges.cut = true;
                return;
            }
            self.visits += 1;
            let gva = base.wrapping_add(span.wrapping_mul(u64::from(index)));
            if spte.is_leaf(level) {
                self.runs += usize::from(ranges.push(canonical(gva, root), spte, level, span));
            } else if let Some(child) = tables.child(page, spte) {
                self.visit(ranges, child, gva, root);
            }
        }
    }
}

impl Ranges {
    /// Adds a leaf; true if it begins a run.
    fn push(&mut self, gva: Gva, spte: Spte, level: Level, span: u64) -> bool {
        let end = gva.0.wrapping_add(span);
        if let Some(run) = self.runs.last_mut()
            && run.end == gva.0
            && run.level == level
            && run.first.0 & RIGHTS == spte.0 & RIGHTS
        {
            let pfns = [run.last.pfn().0, spte.pfn().0];
            run.frames = run.frames.then(pfns, level.pages());
            run.last = spte;
            run.end = end;
            run.entries += 1;
            return false;
        }
        self.runs.push(Run {
            gva,
            entries: 1,
            level,
            first: spte,
            frames: FrameOrder::default(),
            last: spte,
            end,
        });
        true
    }
}

/// Rights and the page size: what leaves of one run have in common.
const RIGHTS: u64 = 1 << 1 | 1 << 2 | 1 << 9 | 1 << 10 | 1 << 63;
