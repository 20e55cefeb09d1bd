//! The whole of a trace, whoever made it.

use std::path::Path;

use analyzer::symbols;
use fastrand::Rng;
use maker::damage::Damage;
use trace::Trace;

use crate::{folder, scratch};

/// Records read: a small file may say that it has a million rows, and does.
const MOST: usize = 100_000;

/// Opens a trace of these bytes and reads all of it.
///
/// # Panics
///
/// If the files cannot be written.
#[expect(clippy::expect_used, reason = "that is no finding: see `scratch`")]
pub fn trace(bytes: &[u8]) {
    let (_folder, path) = scratch();
    folder::unpack(bytes, &path).expect("written");
    open(&path);
}

/// Opens a trace and reads all of it, and what else the folder has.
pub fn open(path: &Path) {
    let Ok(trace) = Trace::open(path) else {
        return;
    };
    _ = (trace.left_over(), trace.span_ns(), trace.bytes());
    let meta = trace.meta();
    _ = (meta.begin(), meta.sees(), meta.role_layout());
    if let Ok(Some((path, list))) = trace.symbols() {
        _ = symbols::list(&path, list);
    }
    for record in trace.records().take(MOST) {
        if record.is_err() {
            return;
        }
    }
}

/// Damages a trace in bytes as the tests of hostile traces do. `None` if these bytes are no whole
/// trace, or what the damage makes of it is longer than `most`.
pub fn damaged(bytes: &[u8], most: usize, seed: u32) -> Option<Vec<u8>> {
    let (_folder, path) = scratch();
    folder::unpack(bytes, &path).ok()?;
    let is_whole = Trace::open(&path).is_ok_and(|trace| {
        let few = trace.listed_rows() <= 10_000;
        few && trace.records().all(|record| record.is_ok())
    });
    if !is_whole {
        return None;
    }
    let mut random = Rng::with_seed(seed.into());
    let damage = Damage::ALL[random.usize(..Damage::ALL.len())];
    damage.apply(&path, &mut random);
    let bytes = folder::pack(&path).ok()?;
    (bytes.len() <= most).then_some(bytes)
}
