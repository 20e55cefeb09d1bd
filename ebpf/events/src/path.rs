//! The path of an address through the shadow tables.

use crate::{Level, Spte, constants::PAE_ROOT_LEVEL};

/// One entry on the path from the root to a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStep {
    /// The entry.
    pub spte: Spte,
    /// Level of its table.
    pub level: Level,
    /// Level of the root.
    pub root_level: Level,
}

impl PathStep {
    /// Whether its table is `mmu->pae_root`, which is no shadow page: its four entries have a P
    /// bit and no other bit of an SPTE.
    #[inline(always)]
    pub const fn is_pae_root(self) -> bool {
        self.level.0 == PAE_ROOT_LEVEL && self.root_level.0 == PAE_ROOT_LEVEL
    }

    /// Whether the path ends here: at a leaf, or where nothing is mapped.
    #[inline(always)]
    pub const fn is_end(self) -> bool {
        if self.is_pae_root() {
            !self.spte.has_present_bit()
        } else {
            self.level.0 == 1 || !self.spte.is_shadow_present() || self.spte.is_leaf(self.level)
        }
    }

    /// Whether it links a shadow page to its child.
    #[inline(always)]
    pub const fn is_link(self) -> bool {
        !self.is_end() && !self.is_pae_root()
    }
}

#[cfg(test)]
mod tests {
    use super::PathStep;
    use crate::{Level, Spte};

    fn step(spte: u64, level: u8, root_level: u8) -> [bool; 2] {
        let step = PathStep {
            spte: Spte(spte),
            level: Level(level),
            root_level: Level(root_level),
        };
        [step.is_end(), step.is_link()]
    }

    #[test]
    fn a_path_ends_at_a_leaf_or_where_nothing_is_mapped() {
        const PRESENT: u64 = 1 << 11 | 1;
        const LARGE: u64 = 1 << 7;
        assert_eq!(step(PRESENT, 4, 4), [false, true]);
        assert_eq!(step(PRESENT | LARGE, 2, 4), [true, false]);
        assert_eq!(step(PRESENT, 1, 4), [true, false]);
        assert_eq!(step(0, 3, 4), [true, false]);
        // The entries of a PAE root are no shadow page's.
        assert_eq!(step(1, 3, 3), [false, false]);
        assert_eq!(step(0, 3, 3), [true, false]);
        assert_eq!(step(PRESENT, 2, 3), [false, true]);
    }
}
