//! The guest's own tables, as far as a fault's walk of them was recorded.

use events::{Class, Gpa, Gpte, Level};
use serde::Serialize;
use trace::FaultRow;

/// One guest entry of the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GuestStep {
    /// Level of the guest table.
    pub level: Level,
    /// GPA of the table: from CR3 or the entry above.
    #[serde(rename = "table_gpa")]
    pub table: Option<Gpa>,
    /// Index of the entry.
    pub index: u16,
    /// The entry.
    pub gpte: Gpte,
    #[serde(skip)]
    paging: Paging,
}

/// The format of the guest's tables, which the highest level that was read shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paging {
    /// Four or five levels.
    Long,
    /// Three levels, the highest of four entries.
    Pae,
    /// Two levels of 1024 entries of four bytes.
    Legacy,
}

impl Paging {
    fn of(top: u8) -> Self {
        match top {
            0..=2 => Self::Legacy,
            3 => Self::Pae,
            _ => Self::Long,
        }
    }

    /// Bits of an address that a level translates.
    const fn bits(self) -> u32 {
        match self {
            Self::Legacy => 10,
            Self::Pae | Self::Long => 9,
        }
    }

    const fn entry_bytes(self) -> u64 {
        match self {
            Self::Legacy => 4,
            Self::Pae | Self::Long => 8,
        }
    }

    /// Where CR3 points, without PCID and flags.
    const fn table(self, cr3: Gpa) -> Gpa {
        match self {
            Self::Pae => Gpa(cr3.0 & 0xffff_ffe0),
            Self::Legacy => Gpa(cr3.0 & 0xffff_f000),
            Self::Long => Gpa(cr3.0 & ((1 << 52) - 1) & !0xfff),
        }
    }
}

impl GuestStep {
    /// Bytes of the entry.
    pub fn bytes(&self) -> u64 {
        self.paging.entry_bytes()
    }

    /// Where the entry is.
    pub fn place(&self) -> Option<Gpa> {
        let offset = self.paging.entry_bytes() * u64::from(self.index);
        Some(Gpa(self.table?.0 + offset))
    }

    /// It maps memory, instead of pointing to another table.
    pub fn is_leaf(&self) -> bool {
        self.gpte.is_present() && (self.level.0 == 1 || self.gpte.is_large())
    }

    /// How many 4 KiB pages the entry spans.
    pub fn pages(&self) -> u64 {
        1 << (self.paging.bits() * (u32::from(self.level.0) - 1))
    }
}

/// The guest entries of a fault that were recorded, from the highest level down.
pub fn guest_walk(row: &FaultRow) -> Vec<GuestStep> {
    let gptes = [
        (5_u8, row.gpte5),
        (4, row.gpte4),
        (3, row.gpte3),
        (2, row.gpte2),
        (1, row.gpte1),
    ];
    let read = || {
        gptes
            .iter()
            .filter_map(|(level, gpte)| Some((*level, (*gpte)?)))
    };
    let Some((top, _)) = read().next() else {
        return Vec::new();
    };
    let paging = Paging::of(top);
    let mut table = Some(paging.table(row.cr3));
    let mut steps = Vec::new();
    let mut above = top + 1;
    for (level, gpte) in read() {
        // A level that was not recorded breaks the chain.
        if above != level + 1 {
            table = None;
        }
        let shift = 12 + paging.bits() * (u32::from(level) - 1);
        #[expect(clippy::cast_possible_truncation, reason = "at most ten bits are left")]
        let index = ((row.gva.0 >> shift) & ((1 << paging.bits()) - 1)) as u16;
        steps.push(GuestStep {
            level: Level(level),
            table,
            index,
            gpte,
            paging,
        });
        table = gpte.is_present().then_some(gpte.gpa());
        above = level;
    }
    steps
}

/// The GPA of the access: as KVM found it, or, where KVM ended the fault before it needed the GPA,
/// by the guest's last entry.
pub fn gpa(row: &FaultRow) -> Option<Gpa> {
    if row.gpa.is_some() || row.class == Class::Guest {
        return row.gpa;
    }
    let last = guest_walk(row).pop().filter(GuestStep::is_leaf)?;
    let within = (last.pages() << 12) - 1;
    Some(Gpa(last.gpte.gpa().0 & !within | row.gva.0 & within))
}

#[cfg(test)]
mod tests {
    use events::{Gva, Seq};

    use super::*;
    use crate::replay::blank_fault;

    fn fault(gptes: [u64; 3]) -> FaultRow {
        let [gpte3, gpte2, gpte1] = gptes.map(|gpte| (gpte != 0).then_some(Gpte(gpte)));
        FaultRow {
            class: Class::WriteProtected,
            gva: Gva(0xc040_2345),
            cr3: Gpa(0x5020),
            gpte3,
            gpte2,
            gpte1,
            ..blank_fault(Seq(0))
        }
    }

    fn places(row: &FaultRow) -> Vec<Option<u64>> {
        let place = |step: &GuestStep| step.place().map(|place| place.0);
        guest_walk(row).iter().map(place).collect()
    }

    #[test]
    fn a_pae_guest_has_four_pdptes_and_entries_of_eight_bytes() {
        let row = fault([0x6001, 0x7067, 0x9067]);
        assert_eq!(places(&row), [Some(0x5038), Some(0x6010), Some(0x7010)]);
        assert_eq!(gpa(&row), Some(Gpa(0x9345)));
    }

    #[test]
    fn a_32_bit_guest_has_1024_entries_of_four_bytes() {
        let row = fault([0, 0x7067, 0x9067]);
        assert_eq!(places(&row), [Some(0x5c04), Some(0x7008)]);
        let large = fault([0, 0x80_00e7, 0]);
        assert_eq!(gpa(&large), Some(Gpa(0x80_2345)));
    }
}
