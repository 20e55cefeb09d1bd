//! The shadow pages of one guest table.

use bytemuck::{Pod, Zeroable};

/// Shadow pages of one guest table, and entries of one page, that are looked at: a table has one for
/// each combination of the rights (read, write, execute) that the tables above it grant. One that is
/// mapped as a table of several levels may have more; those are counted as [`crate::Probe::Shadows`].
pub const SHADOWS: usize = 8;

/// Kernel addresses of the entries (`sp->spt`) of a guest table's shadow pages; 0 where there are
/// fewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub struct Shadows(pub [u64; SHADOWS]);

impl Shadows {
    /// One page.
    pub const fn of(spt: u64) -> Self {
        let mut pages = [0; SHADOWS];
        pages[0] = spt;
        Self(pages)
    }

    /// Adds a page unless it is there; false if there is no place for it.
    ///
    /// Looks at every place before it takes a free one: a page that was zapped leaves a hole, and
    /// the page may come after it.
    #[inline(always)]
    pub fn insert(&mut self, spt: u64) -> bool {
        let mut is_there = false;
        for place in &self.0 {
            is_there |= *place == spt;
        }
        if is_there {
            return true;
        }
        for place in &mut self.0 {
            if *place == 0 {
                *place = spt;
                return true;
            }
        }
        false
    }

    /// Takes a page out; true if none is left.
    #[inline(always)]
    pub fn remove(&mut self, spt: u64) -> bool {
        let mut left = 0;
        for place in &mut self.0 {
            if *place == spt {
                *place = 0;
            }
            left |= *place;
        }
        left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::Shadows;

    /// A keyframe enters each page that is there already, whatever was zapped before it.
    #[test]
    fn a_page_after_a_hole_is_not_entered_twice() {
        let mut shadows = Shadows::of(1);
        assert!(shadows.insert(2));
        assert!(!shadows.remove(1));
        assert!(shadows.insert(2));
        let mut expected = Shadows::default();
        expected.0[1] = 2;
        assert_eq!(shadows, expected);
    }

    #[test]
    fn a_ninth_page_has_no_place_and_the_last_one_to_go_leaves_none() {
        let mut shadows = Shadows::of(1);
        assert!(
            [2, 3, 4, 3, 5, 6, 7, 8]
                .into_iter()
                .all(|spt| shadows.insert(spt))
        );
        assert!(!shadows.insert(9));
        let left = [4, 1, 3, 8, 7, 5, 6, 2].map(|spt| shadows.remove(spt));
        assert_eq!(
            left,
            [false, false, false, false, false, false, false, true]
        );
    }
}
