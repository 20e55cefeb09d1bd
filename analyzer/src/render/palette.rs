//! Colours that people with colour-blindness can distinguish: Okabe and Ito's for classes, Paul
//! Tol's muted set for steps and levels, and one hue from light to dark for counts.

use events::{Cause, Class};
use plotters::style::RGBColor;

use crate::faults::FaultStep;

/// Words and axes.
pub(super) const INK: RGBColor = RGBColor(51, 51, 51);
/// Grid lines.
pub(super) const GRID: RGBColor = RGBColor(230, 230, 230);
/// What nothing accounts for.
pub(super) const REST: RGBColor = RGBColor(200, 200, 200);
/// Lost records.
pub(super) const LOST: RGBColor = RGBColor(213, 0, 0);

/// The colour of a class, the same in every figure.
pub(super) fn class(class: Class) -> RGBColor {
    match class {
        Class::Guest => RGBColor(230, 159, 0),
        Class::Shadow => RGBColor(0, 114, 178),
        Class::WriteProtected => RGBColor(213, 94, 0),
        Class::Unsync => RGBColor(204, 121, 167),
        Class::Mmio => RGBColor(0, 158, 115),
        Class::Fast => RGBColor(86, 180, 233),
        Class::Spurious => RGBColor(184, 168, 20),
        Class::Retried => RGBColor(110, 110, 110),
        Class::Failed => RGBColor(0, 0, 0),
    }
}

/// The colour of a step.
pub(super) fn step(step: FaultStep) -> RGBColor {
    match step {
        FaultStep::Exit => RGBColor(136, 34, 85),
        FaultStep::Walk => RGBColor(136, 204, 238),
        FaultStep::Pfn => RGBColor(17, 119, 51),
        FaultStep::Hva => RGBColor(153, 153, 51),
        FaultStep::Tables => RGBColor(221, 204, 119),
        FaultStep::PfnTables => RGBColor(68, 170, 153),
        FaultStep::Write => RGBColor(204, 102, 119),
        FaultStep::Inject => RGBColor(119, 119, 119),
        FaultStep::Emulate => RGBColor(170, 68, 153),
        FaultStep::Entry => RGBColor(51, 34, 136),
    }
}

/// The colour of a cause: one hue for each kind of act. The name in the legend tells apart what is
/// alike.
pub(super) fn cause(cause: Cause) -> RGBColor {
    match cause {
        Cause::Link => RGBColor(51, 34, 136),
        Cause::Prefetch => RGBColor(136, 204, 238),
        Cause::Fault => RGBColor(0, 114, 178),
        Cause::GuestWrite => RGBColor(213, 94, 0),
        Cause::Sync => RGBColor(204, 121, 167),
        Cause::Invlpg => RGBColor(170, 68, 153),
        Cause::HostUnmap => RGBColor(0, 158, 115),
        Cause::DirtyLog => RGBColor(17, 119, 51),
        Cause::WriteProtect => RGBColor(230, 159, 0),
        Cause::Memslot => RGBColor(153, 153, 51),
        Cause::Mmio => RGBColor(136, 34, 85),
        Cause::Reread => RGBColor(160, 160, 160),
        Cause::Other => RGBColor(90, 90, 90),
    }
}

/// The colour of pages of a level, counted from 1.
pub(super) fn level(level: usize) -> RGBColor {
    match level {
        1 => RGBColor(51, 34, 136),
        2 => RGBColor(17, 119, 51),
        3 => RGBColor(68, 170, 153),
        4 => RGBColor(221, 204, 119),
        _ => RGBColor(204, 102, 119),
    }
}

/// The colours of address spaces, the costliest first.
pub(super) const SPACES: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
];
/// Those of all other address spaces.
pub(super) const OTHER_ROOTS: RGBColor = RGBColor(110, 110, 110);
/// What several address spaces have.
pub(super) const SHARED: RGBColor = RGBColor(213, 94, 0);

/// Colours of a heat-map, from few to many.
pub(super) const HEAT: [RGBColor; 6] = [
    RGBColor(198, 219, 239),
    RGBColor(158, 202, 225),
    RGBColor(107, 174, 214),
    RGBColor(66, 146, 198),
    RGBColor(33, 113, 181),
    RGBColor(8, 48, 107),
];

/// As a page has it: `#0072B2`.
pub fn code(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

/// The colour of a cause, for a page.
pub fn cause_colour(of: Cause) -> String {
    code(cause(of))
}

/// The colour of a class, for a page.
pub fn class_colour(of: Class) -> String {
    code(class(of))
}

/// The colour of pages of a level, counted from 1, for a page.
pub fn level_colour(of: usize) -> String {
    code(level(of))
}

/// Colours of a heat map, from few to many, for a page.
pub fn heat_colours() -> Vec<String> {
    HEAT.map(code).to_vec()
}
