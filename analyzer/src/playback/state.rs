//! What changed in the tables.

use events::{Hpa, Spte};
use trace::FaultRow;

use super::{
    step::entry,
    stream::{Numbers, Of, Stream},
};
use crate::replay::{ShadowPage, Touched, VmReplay};

/// What a change is; the byte before it.
const GONE: u8 = 1;
const PAGE: u8 = 2;
const ENTRY: u8 = 3;
/// After the last change of a step.
const END: u8 = 0;
/// No page is known any more: a sample begins.
const NOTHING_KNOWN: u8 = 4;

/// Everything that the latest record changed; `None` where it is too long, or has an address that
/// no machine has.
pub(super) fn changes(
    to: &mut Stream,
    numbers: &mut Numbers,
    vm: &VmReplay,
    most: usize,
) -> Option<()> {
    let tables = vm.tables();
    for touched in tables.touched() {
        if to.len() > most {
            return None;
        }
        match *touched {
            Touched::Gone(spt) => {
                to.byte(GONE);
                numbers.put(to, Of::Place, spt.0 >> 3)?;
            }
            Touched::Page(spt) => {
                if let Some(page) = tables.page(spt) {
                    known(to, numbers, page)?;
                }
            }
            Touched::Entry(place) => {
                if let Some(page) = tables.page(place.table()) {
                    stored(to, numbers, page, place, page.entry(place.index()))?;
                }
            }
        }
    }
    to.byte(END);
    Some(())
}

/// The tables from the fault's root to its leaf, whole.
pub(super) fn on_the_way(
    to: &mut Stream,
    numbers: &mut Numbers,
    vm: &VmReplay,
    row: &FaultRow,
) -> Option<()> {
    to.byte(NOTHING_KNOWN);
    for step in vm.walk(row.root, row.gva).steps {
        let Some(page) = vm.tables().page(step.spt).filter(|_| !step.is_pdpte) else {
            continue;
        };
        known(to, numbers, page)?;
        for (index, spte) in page.entries() {
            stored(to, numbers, page, page.place(index), spte)?;
        }
    }
    to.byte(END);
    Some(())
}

fn known(to: &mut Stream, numbers: &mut Numbers, page: &ShadowPage) -> Option<()> {
    to.byte(PAGE);
    numbers.put(to, Of::Place, page.info.spt.0 >> 3)?;
    numbers.put(to, Of::Gfn, page.info.gfn.0)?;
    to.byte(page.info.level.0);
    to.byte(u8::from(page.info.direct) | u8::from(page.info.unsync) << 1);
    numbers.word(to, page.info.role.0.into());
    Some(())
}

/// The guest's frame is that of a leaf, as far as it is known: one more than it, or zero.
fn stored(
    to: &mut Stream,
    numbers: &mut Numbers,
    page: &ShadowPage,
    place: Hpa,
    spte: Spte,
) -> Option<()> {
    to.byte(ENTRY);
    numbers.put(to, Of::Place, place.0 >> 3)?;
    entry(to, numbers, Of::Pfn, spte.0)?;
    let gfn = page.leaf_gfn(place.index());
    match gfn.filter(|_| spte.is_leaf(page.info.level)) {
        Some(gfn) => {
            to.byte(1);
            numbers.put(to, Of::Gfn, gfn.0)?;
        }
        None => to.byte(0),
    }
    Some(())
}
