//! The memory of shadow tables: what `memory --json` prints.

use events::{Gfn, Gpa, Hpa, Role, VmId};
use serde::Serialize;

use super::{
    Growth, PAGE_BYTES, Snapshot,
    growth::{Bin, Pages},
    snapshot::{AddressSpace, RoleCount},
};
use crate::text::units::{bytes, count, plural};

/// What `memory --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryReport {
    /// Records known to be missing: what follows them may be wrong.
    pub lost: u64,
    /// Each VM.
    pub vms: Vec<VmMemory>,
}

/// One VM.
#[derive(Clone, Debug, Serialize)]
pub struct VmMemory {
    /// Its number.
    pub vm: u16,
    /// Events of pages by level.
    pub events: Vec<LevelEvents>,
    /// The moment with the most pages, or the one asked for.
    pub moment: MomentReport,
    /// Length of a span of `bins`, ns.
    pub bin_ns: u64,
    /// Over time: each span with a change.
    pub bins: Vec<BinReport>,
}

/// Events of pages of one level.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LevelEvents {
    /// The level.
    pub level: u8,
    /// Pages made.
    pub made: u64,
    /// Pages found again by frame and role.
    pub reused: u64,
    /// Pages zapped.
    pub zapped: u64,
}

/// Pages of one level.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LevelPages {
    /// The level.
    pub level: u8,
    /// Those that shadow a guest table.
    pub indirect: u64,
    /// Direct ones: parts of a large page, or of a guest without paging.
    pub direct: u64,
}

/// Pages of one role.
#[derive(Clone, Debug, Serialize)]
pub struct RolePages {
    /// The raw role word (`kvm_mmu_page_role`).
    pub role: Role,
    /// Their level.
    pub level: u8,
    /// What the path to them allows (`access`): `wxu` is write, execute, user.
    pub access: String,
    /// Pages.
    pub pages: u64,
}

/// Pages of one role at the end of a span of time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct RoleAt {
    /// The raw role word.
    pub role: Role,
    /// Pages.
    pub pages: u64,
}

/// One moment.
#[derive(Clone, Debug, Serialize)]
pub struct MomentReport {
    /// The record after which it is.
    pub seq: u64,
    /// Shadow pages.
    pub pages: u64,
    /// Their entries, bytes.
    pub bytes: u64,
    /// By level.
    pub by_level: Vec<LevelPages>,
    /// By role, those of most pages first.
    pub by_role: Vec<RolePages>,
    /// Distinct guest tables that they shadow, and their bytes.
    pub guest_tables: u64,
    /// See `guest_tables`.
    pub guest_table_bytes: u64,
    /// Distinct guest memory that leaves map, bytes.
    pub mapped_bytes: Option<u64>,
    /// Leaves whose guest frame no record has given yet: not in `mapped_bytes`.
    pub stray_leaves: u64,
    /// Guest tables that several pages shadow.
    pub duplicated_tables: u64,
    /// Pages beyond the first of each such table.
    pub duplicate_pages: u64,
    /// The most duplicated tables.
    pub duplicates: Vec<DuplicateReport>,
    /// Roots of address spaces.
    pub roots: u64,
    /// Pages that one address space leads to.
    pub own_pages: u64,
    /// Pages that several address spaces lead to.
    pub shared_pages: u64,
    /// Pages that no root leads to.
    pub unreached_pages: u64,
    /// Address spaces with a CR3.
    pub address_spaces: u64,
    /// Half of those have at least so many pages of their own.
    pub median_own_pages: Option<u64>,
    /// The address spaces with the most pages of their own, those without a CR3 included.
    pub each_address_space: Vec<SpaceReport>,
}

/// A guest table that several pages shadow.
#[derive(Clone, Debug, Serialize)]
pub struct DuplicateReport {
    /// Its frame.
    pub gfn: Gfn,
    /// The pages.
    pub pages: Vec<DuplicatePage>,
}

/// One of them.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct DuplicatePage {
    /// Its address.
    pub spt: Hpa,
    /// Its level.
    pub level: u8,
    /// Its raw role word.
    pub role: Role,
}

/// The roots of one guest table, or one root without a guest table.
#[derive(Clone, Debug, Serialize)]
pub struct SpaceReport {
    /// Their addresses: one for each role.
    pub roots: Vec<Hpa>,
    /// The guest's CR3; absent of a PAE root and of a guest without paging.
    pub cr3: Option<Gpa>,
    /// Pages that only they lead to, themselves included.
    pub own_pages: u64,
    /// Their bytes.
    pub own_bytes: u64,
    /// Pages that they share with other address spaces; absent if that takes too long to count.
    pub shared_pages: Option<u64>,
}

/// A span of time.
#[derive(Clone, Debug, Serialize)]
pub struct BinReport {
    /// Its beginning, ns from the start of the trace.
    pub from_ns: u64,
    /// Pages at its end, by level.
    pub by_level: Vec<LevelPages>,
    /// Pages at its end, by role: of the first 64 roles that the VM had.
    pub by_role: Vec<RoleAt>,
    /// Distinct guest tables at its end.
    pub guest_tables: u64,
    /// The sizes of all leaves at its end, bytes; a frame that is mapped twice counts twice.
    pub mapped_by_leaves_bytes: u64,
    /// Pages made in it.
    pub made: u64,
    /// Pages found again in it.
    pub reused: u64,
    /// Pages zapped in it.
    pub zapped: u64,
}

pub(super) fn levels(pages: &Pages) -> Vec<LevelPages> {
    let levels = (1_u8..).zip(pages);
    let levels = levels.map(|(level, [indirect, direct])| LevelPages {
        level,
        indirect: *indirect,
        direct: *direct,
    });
    levels.filter(|of| of.indirect + of.direct > 0).collect()
}

pub(super) fn events(growth: &Growth) -> Vec<LevelEvents> {
    let events = (1_u8..).zip(growth.events());
    let events = events.map(|(level, of)| LevelEvents {
        level,
        made: of.made,
        reused: of.reused,
        zapped: of.zapped,
    });
    events
        .filter(|of| of.made + of.reused + of.zapped > 0)
        .collect()
}

impl VmMemory {
    /// Of one VM.
    pub fn of(vm: VmId, growth: &Growth, snapshot: &Snapshot) -> Self {
        Self {
            vm: vm.0,
            events: events(growth),
            moment: MomentReport::of(snapshot),
            bin_ns: growth.bin_ns(),
            bins: growth
                .bins()
                .map(|(at, bin)| BinReport::of(at, bin))
                .collect(),
        }
    }
}

impl BinReport {
    fn of(from_ns: u64, bin: &Bin) -> Self {
        Self {
            from_ns,
            by_level: levels(&bin.pages),
            by_role: RoleAt::of_bin(bin),
            guest_tables: bin.guest_tables,
            mapped_by_leaves_bytes: bin.mapped_bytes,
            made: bin.made,
            reused: bin.reused,
            zapped: bin.zapped,
        }
    }
}

impl MomentReport {
    pub(super) fn of(of: &Snapshot) -> Self {
        let pages: u64 = of.pages.iter().flatten().sum();
        let duplicates = of.listed.iter().map(|table| DuplicateReport {
            gfn: table.gfn,
            pages: table
                .pages
                .iter()
                .map(|(spt, role, level)| DuplicatePage {
                    spt: *spt,
                    level: level.0,
                    role: *role,
                })
                .collect(),
        });
        Self {
            seq: of.seq.0,
            pages,
            bytes: pages.saturating_mul(PAGE_BYTES),
            by_level: levels(&of.pages),
            by_role: of.roles.iter().map(RolePages::of).collect(),
            guest_tables: of.guest_tables,
            guest_table_bytes: of.guest_tables.saturating_mul(PAGE_BYTES),
            mapped_bytes: of
                .mapped_frames
                .map(|frames| frames.saturating_mul(PAGE_BYTES)),
            stray_leaves: of.strays,
            duplicated_tables: of.duplicated,
            duplicate_pages: of.duplicates,
            duplicates: duplicates.collect(),
            roots: of.roots,
            own_pages: of.own,
            shared_pages: of.shared,
            unreached_pages: of.unreached,
            address_spaces: of.with_cr3,
            median_own_pages: of.median_own,
            each_address_space: of.spaces.iter().map(SpaceReport::of).collect(),
        }
    }
}

impl RolePages {
    fn of(of: &RoleCount) -> Self {
        let letters = of.rights.iter().zip(["w", "x", "u"]);
        let letters = letters.map(|(has, letter)| if *has { letter } else { "-" });
        Self {
            role: of.role,
            level: of.level.0,
            access: letters.collect(),
            pages: of.pages,
        }
    }
}

impl RoleAt {
    fn of_bin(bin: &Bin) -> Vec<Self> {
        let present = bin.roles.iter().filter(|(_, pages)| *pages > 0);
        let role = |(role, pages): &(Role, u64)| Self {
            role: *role,
            pages: *pages,
        };
        present.map(role).collect()
    }
}

impl SpaceReport {
    fn of(space: &AddressSpace) -> Self {
        Self {
            roots: space.roots.clone(),
            cr3: space.cr3(),
            own_pages: space.own,
            own_bytes: space.own.saturating_mul(PAGE_BYTES),
            shared_pages: space.shared,
        }
    }
}

/// The moment with the most pages, for `summary`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PeakReport {
    /// The record after which it is.
    pub seq: u64,
    /// Shadow pages.
    pub pages: u64,
    /// Their entries, bytes.
    pub bytes: u64,
    /// Pages made in the whole recording.
    pub made: u64,
    /// Pages found again by frame and role.
    pub reused: u64,
    /// Pages zapped.
    pub zapped: u64,
}

impl PeakReport {
    /// None without a shadow page.
    pub fn of(growth: &Growth) -> Option<Self> {
        let (peak, events) = (growth.peak(), growth.events());
        (peak.pages > 0).then(|| Self {
            seq: peak.seq.0,
            pages: peak.pages,
            bytes: peak.pages.saturating_mul(PAGE_BYTES),
            made: events.iter().map(|of| of.made).sum(),
            reused: events.iter().map(|of| of.reused).sum(),
            zapped: events.iter().map(|of| of.zapped).sum(),
        })
    }

    /// In one line.
    pub fn line(&self) -> String {
        let pages = plural(self.pages, "shadow page");
        let [made, reused, zapped] = [self.made, self.reused, self.zapped].map(count);
        let (bytes, seq) = (bytes(self.bytes), count(self.seq));
        format!(
            "at most {pages} ({bytes}), after seq {seq}; {made} made, {reused} found again, \
             {zapped} zapped"
        )
    }
}
