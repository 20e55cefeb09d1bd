//! Text of tracefs and of `perf script` to a trace, which is then whole.

#![no_main]
#![expect(clippy::unwrap_used, reason = "a panic is a finding")]

use analyzer::import::import;
use trace::Trace;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (folder, path) = fuzz::scratch();
    let text = folder.path().join("text");
    std::fs::write(&text, bytes).unwrap();
    if import(&text, &path, Vec::new()).is_ok() {
        let trace = Trace::open(&path).unwrap();
        assert!(trace.records().all(|record| record.is_ok()));
    }
});
