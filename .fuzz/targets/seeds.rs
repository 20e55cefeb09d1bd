//! Writes inputs to begin with, for each fuzzer: `fuzz_seeds FOLDER`, in the project's folder.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use fuzz::{folder, replay::LAYOUT, seeds};
use maker::{Maker, Shape, Vms};
use trace::{Record, Trace};

/// Longest trace that is mutated.
const LONGEST: usize = 64 << 10;
/// Records of a piece, and pieces of a recording.
const PIECE: usize = 24;
const PIECES: usize = 12;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = env::args_os().nth(1).ok_or("which folder?")?;
    let out = Path::new(&out);
    for of in ["trace", "replay", "ring", "btf", "text", "symbols"] {
        fs::create_dir_all(out.join(of))?;
    }
    let all = [
        "analyzer/tests/recordings",
        "analyzer/src/lesson/recordings",
    ];
    let mut number = 0;
    for path in all
        .into_iter()
        .map(entries)
        .collect::<io::Result<Vec<_>>>()?
        .concat()
    {
        if !path.join("meta.json").exists() {
            continue;
        }
        let packed = folder::pack(&path)?;
        if packed.len() <= LONGEST {
            fs::write(out.join(format!("trace/{number}")), packed)?;
        }
        let records: Vec<Record> = Trace::open(&path)?.records().collect::<Result<_, _>>()?;
        let step = (records.len() / PIECES).max(1);
        for from in (0..records.len()).step_by(step) {
            let piece = seeds::ring(records.iter().skip(from).take(PIECE));
            let of_ring = [bytemuck::bytes_of(&LAYOUT), &piece].concat();
            fs::write(out.join(format!("ring/{number}-{from}")), of_ring)?;
            let flags = u8::try_from(number % 64)?;
            let of_replay = [&[flags], piece.as_slice()].concat();
            fs::write(out.join(format!("replay/{number}-{from}")), of_replay)?;
        }
        number += 1;
    }
    for (name, shape) in made_up() {
        let (_folder, path) = fuzz::scratch();
        Maker::new(shape).write(&path)?;
        fs::write(out.join("trace").join(name), folder::pack(&path)?)?;
    }
    for kernel in entries("collector/src/probes/btf/fixtures")? {
        let Ok(vmlinux) = fs::read(kernel.join("vmlinux")) else {
            continue;
        };
        let kvm = fs::read(kernel.join("kvm")).unwrap_or_default();
        let length = u16::try_from(kvm.len()).unwrap_or(u16::MAX);
        let name = kernel.file_name().unwrap_or_default();
        let both = [&length.to_le_bytes(), kvm.as_slice(), &vmlinux].concat();
        fs::write(out.join("btf").join(name), both)?;
    }
    for text in entries("analyzer/src/import/samples")? {
        let name = text.file_name().unwrap_or_default();
        fs::copy(&text, out.join("text").join(name))?;
    }
    let symbols =
        "ffffffff81000000 T _text\nffffffff81000040 0000000000000010 t page_fault\t[kvm]\n";
    fs::write(out.join("symbols/text"), symbols)?;
    Ok(())
}

/// Small traces: what is short is mutated more often.
fn made_up() -> [(&'static str, Shape); 3] {
    let small = Shape {
        pages: 4,
        segment: 20,
        ..Shape::default()
    };
    let two = Shape {
        vms: Vms::Attached,
        pages: 12,
        ..Shape::default()
    };
    let cut = Shape { cut: true, ..small };
    [("small", small), ("two", two), ("cut", cut)]
}

fn entries(folder: &str) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}
