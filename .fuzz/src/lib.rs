//! What the fuzzers call: any bytes give a result or an error, soon.
//!
//! ```text
//! folder   a trace as one string of bytes, and back
//! read     the whole of a trace, whoever made it
//! replay   records in any order to every analysis
//! seeds    the recordings of the tests as inputs to begin with
//! ```

pub mod folder;
pub mod read;
pub mod replay;
pub mod seeds;

use std::path::PathBuf;

use tempfile::TempDir;

/// A folder for one input: in memory, if that can be, since a trace is synced file by file.
///
/// # Panics
///
/// If there is no room for it: that is no finding, and the fuzzer must not go on.
#[expect(clippy::expect_used, reason = "see above")]
pub fn scratch() -> (TempDir, PathBuf) {
    let memory = std::path::Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let folder = folder.expect("a temporary folder");
    let trace = folder.path().join("f.trace");
    (folder, trace)
}
