//! Where the guest's kernel was loaded.
//!
//! Linux on x86-64 is linked at `__START_KERNEL_map` plus `CONFIG_PHYSICAL_START`, and KASLR moves
//! it up by a multiple of `CONFIG_PHYSICAL_ALIGN`, within the 1 GiB of its image
//! (`choose_random_location`, arch/x86/boot/compressed/kaslr.c). Symbols of the file that was
//! linked (vmlinux, System.map) do not know by how much.

use events::Gva;

use super::Symbols;

/// `_text` of a kernel that KASLR did not move, with the usual configuration.
pub(super) const LINKED: Gva = Gva(0xffff_ffff_8100_0000);
/// Where a kernel's image can be: from `__START_KERNEL_map`, 1 GiB.
const IMAGE: [Gva; 2] = [Gva(0xffff_ffff_8000_0000), Gva(0xffff_ffff_c000_0000)];
/// The smallest step: `MIN_KERNEL_ALIGN`.
const STEP: u64 = 2 << 20;

/// The guest's instructions in the place of a kernel's image, as the faults of a trace have them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Lowest and highest.
    pub span: Option<[Gva; 2]>,
    /// Faults that have one.
    pub faults: u64,
}

impl Image {
    /// One more instruction.
    pub fn add(&mut self, rip: Gva) {
        let [from, to] = IMAGE;
        if rip < from || rip >= to {
            return;
        }
        self.faults += 1;
        let [low, high] = self.span.unwrap_or([rip; 2]);
        self.span = Some([low.min(rip), high.max(rip)]);
    }
}

/// How far the symbols must be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// Not at all: they are no kernel's, or those of a running one.
    AsTheyAre,
    /// The only place at which every instruction of the kernel is in its text.
    Derived(u64),
    /// Several places agree, or none.
    Unknown {
        /// How many agree.
        fitting: u64,
        /// Where the text was linked.
        linked: Gva,
    },
}

/// How far the symbols must be moved, as far as the trace's instructions prove it.
pub fn find_offset(symbols: &Symbols, seen: Image) -> Offset {
    let Some([from, to]) = symbols.text(IMAGE) else {
        return Offset::AsTheyAre;
    };
    let Some([low, high]) = seen.span else {
        // Nothing is there to be named.
        return Offset::AsTheyAre;
    };
    if symbols.is_running() {
        return Offset::AsTheyAre;
    }
    let room = IMAGE[1].0.saturating_sub(to.0);
    let places = (0..=room / STEP).map(|step| step * STEP);
    let mut fitting = places.filter(|offset| {
        let (from, to) = (from.0.saturating_add(*offset), to.0.saturating_add(*offset));
        from <= low.0 && high.0 < to
    });
    match (fitting.next(), fitting.count()) {
        (Some(only), 0) => Offset::Derived(only),
        (first, more) => Offset::Unknown {
            fitting: u64::from(first.is_some()) + more as u64,
            linked: symbols.address("_text").unwrap_or(from),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{super::table::Symbol, *};

    fn kernel(at: u64, is_running: bool) -> Symbols {
        let function = |at, name: &str| Symbol {
            at: Gva(at),
            bytes: Some(0x1000),
            is_function: true,
            is_global: true,
            name: name.to_owned(),
        };
        let symbols = vec![
            function(at, "_text"),
            function(at + (9 << 20), "last_of_9_mib"),
        ];
        Symbols::new(symbols, is_running)
    }

    fn seen(rips: &[u64]) -> Image {
        let mut image = Image::default();
        rips.iter().for_each(|rip| image.add(Gva(*rip)));
        image
    }

    const TEXT: u64 = 0xffff_ffff_8100_0000;

    #[test]
    fn an_offset_is_derived_only_where_no_other_agrees() {
        let moved = 6 << 20;
        let all = seen(&[TEXT + moved + 0x10, TEXT + moved + (9 << 20), 0x40_0000]);
        assert_eq!(all.faults, 2, "the user's is not in the image");
        let symbols = kernel(TEXT, false);
        assert_eq!(find_offset(&symbols, all), Offset::Derived(moved));
        let few = seen(&[TEXT + (8 << 20)]);
        let several = Offset::Unknown {
            fitting: 5,
            linked: Gva(TEXT),
        };
        assert_eq!(find_offset(&symbols, few), several);
        let too_far_apart = seen(&[TEXT, TEXT + (12 << 20)]);
        let none = Offset::Unknown {
            fitting: 0,
            linked: Gva(TEXT),
        };
        assert_eq!(find_offset(&symbols, too_far_apart), none);
    }

    #[test]
    fn symbols_of_a_running_kernel_or_of_none_stay_where_they_are() {
        let few = seen(&[TEXT + (8 << 20)]);
        assert_eq!(find_offset(&kernel(TEXT, true), few), Offset::AsTheyAre);
        assert_eq!(
            find_offset(&kernel(0x10_0000, false), few),
            Offset::AsTheyAre
        );
    }
}
