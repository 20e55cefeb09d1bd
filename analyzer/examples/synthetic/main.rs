//! Writes a made-up trace of any size, to measure the analyzer with.
//!
//! `synthetic PATH FAULTS [attached]`: the path must not exist yet. With `attached`, two VMs
//! that were found running.

use std::{error::Error, path::PathBuf};

use maker::{Maker, Shape, Vms};

const USAGE: &str = "usage: synthetic PATH FAULTS [attached]";

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let path = PathBuf::from(args.next().ok_or(USAGE)?);
    let faults: u64 = args
        .next()
        .and_then(|text| text.to_str()?.parse().ok())
        .ok_or(USAGE)?;
    let vms = match args.next() {
        None => Vms::Run,
        Some(word) if word == "attached" => Vms::Attached,
        Some(_) => return Err(USAGE.into()),
    };
    // Two faults a page and pass, 64 MiB a pass.
    let pages = 16_384.min(faults.div_ceil(2)).max(1);
    let shape = Shape {
        vms,
        pages,
        passes: faults.div_ceil(2 * pages),
        ..Shape::default()
    };
    Maker::new(shape).write(&path)?;
    Ok(())
}
