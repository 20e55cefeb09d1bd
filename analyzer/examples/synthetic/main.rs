//! Writes a made-up trace of any size, to measure the analyzer with.
//!
//! `synthetic PATH FAULTS`: the path must not be there yet.

mod maker;

use std::{error::Error, path::PathBuf};

use maker::{Maker, Shape};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let path = PathBuf::from(args.next().ok_or("usage: synthetic PATH FAULTS")?);
    let faults: u64 = args
        .next()
        .and_then(|text| text.to_str()?.parse().ok())
        .ok_or("usage: synthetic PATH FAULTS")?;
    // Two faults a page and pass, 64 MiB a pass.
    let pages = 16_384.min(faults.div_ceil(2)).max(1);
    let shape = Shape {
        pages,
        passes: faults.div_ceil(2 * pages),
        ..Shape::default()
    };
    let maker = Maker::new(shape);
    maker.write(&path)?;
    Ok(())
}
