//! The shapes of a guest that `modes` takes on.

use crate::layout::{WORK, WORK_32, WORK_57};
use crate::number::numbered;
use crate::{Gpa, Gva};

numbered! {
    /// How a guest of the workload `modes` translates addresses, or what it switches on and off.
    pub enum Shape {
        /// 32-bit paging with entries of 8 bytes: three levels, the highest of four entries.
        Pae = 1 => "pae",
        /// 32-bit paging with entries of 4 bytes: two levels of 1024 entries.
        Legacy32 = 2 => "legacy32",
        /// Protected mode without paging.
        NoPaging = 3 => "nopaging",
        /// Five levels (CR4.LA57).
        La57 = 4 => "la57",
        /// CR0.WP on and off.
        Wp = 5 => "wp",
        /// EFER.NXE on and off.
        Nx = 6 => "nx",
        /// CR4.SMEP on and off.
        Smep = 7 => "smep",
        /// CR4.SMAP on and off, and EFLAGS.AC.
        Smap = 8 => "smap",
        /// System management mode, entered and left.
        Smm = 9 => "smm",
    }
}

impl Shape {
    /// The first address of the work range; `frames` is where the work frames begin.
    #[must_use]
    pub const fn work(self, frames: Gpa) -> Gva {
        match self {
            Self::Pae | Self::Legacy32 => WORK_32,
            // No table translates these addresses.
            Self::NoPaging | Self::Smm => Gva(frames.0),
            Self::La57 => WORK_57,
            Self::Wp | Self::Nx | Self::Smep | Self::Smap => WORK,
        }
    }
}
