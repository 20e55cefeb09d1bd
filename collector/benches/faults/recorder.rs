//! What the collector takes on other cores: CPU time outside the kernel.
//!
//! A traced run also reads the kernel's types and loads the probes, and the guest itself counts as
//! its time too. So a short run is taken from a long one, and the same difference of untraced runs
//! from that of traced ones.

use serde::Serialize;

use crate::{
    guest::{Guest, Run},
    spread::Spread,
};

/// Pages of the short runs.
const FEW: u64 = 1024;
/// Number of measurements.
const TIMES: usize = 5;

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Recorder {
    /// Draining, decoding and writing.
    pub ns_a_fault: f64,
    /// Before the guest and after it, whatever its length.
    pub start_ns: f64,
}

/// Of a guest that touches more pages than [`FEW`].
pub fn measure(guest: &Guest<'_>) -> anyhow::Result<Recorder> {
    let few = Guest {
        pages: FEW,
        ..*guest
    };
    let mut added = [Vec::new(), Vec::new()];
    for _ in 0..TIMES {
        for (guest, added) in [&few, guest].into_iter().zip(&mut added) {
            let user_ns = |run: Run| run.user_ns;
            let untraced = user_ns(guest.untraced()?);
            added.push(user_ns(guest.traced("recorder")?) - untraced);
        }
    }
    let [short, long] = added.map(|added| Spread::of(added).median);
    let ns_a_fault = (long - short) / (guest.pages - FEW) as f64;
    Ok(Recorder {
        ns_a_fault,
        start_ns: short - ns_a_fault * FEW as f64,
    })
}
