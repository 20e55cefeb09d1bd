//! Names of functions, as text and as ELF.

#![no_main]
#![expect(clippy::unwrap_used, reason = "a panic is a finding")]

use std::path::Path;

use analyzer::symbols;
use events::Gva;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let symbols = if bytes.starts_with(b"\x7fELF") {
        let (folder, _) = fuzz::scratch();
        let file = folder.path().join("vmlinux");
        std::fs::write(&file, bytes).unwrap();
        symbols::read(&file)
    } else {
        symbols::list(Path::new("symbols.txt"), bytes.to_vec())
    };
    let Ok(symbols) = symbols else {
        return;
    };
    for gva in [0, 0xffff_ffff_8100_0000, u64::MAX] {
        if let Some(function) = symbols.find(Gva(gva)) {
            let (_, name) = symbols.name(function).unwrap();
            _ = symbols::short(&name);
        }
        _ = symbols.place(Gva(gva));
    }
});
