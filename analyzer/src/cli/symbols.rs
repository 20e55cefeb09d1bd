//! Names of the guest's functions.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use trace::{FaultRow, Row as _, Trace, TraceError};

use super::{Failure, number};
use crate::symbols::{self, Image, Offset, Symbols, SymbolsError};

/// Which symbols.
#[derive(Debug, Args)]
pub(super) struct SymbolsArgs {
    /// Names of the guest's functions: an ELF file (vmlinux), or text: the guest's
    /// /proc/kallsyms, System.map or the output of `nm -S` [default: those in the trace]
    #[arg(long, value_name = "FILE")]
    symbols: Option<PathBuf>,
    /// How far KASLR moved the guest's kernel from the addresses in FILE [default: found from the
    /// trace, if only one is possible]
    #[arg(long, value_name = "HEX", value_parser = number::offset, requires = "symbols")]
    symbols_offset: Option<u64>,
}

impl SymbolsArgs {
    /// Whether the command line names some.
    pub(super) fn are_given(&self) -> bool {
        self.symbols.is_some()
    }

    /// Reads them; those of the trace without `--symbols`, none if it has none either.
    pub(super) fn read(&self, trace: &Trace) -> Result<Arc<Symbols>, Failure> {
        let Some(path) = &self.symbols else {
            return match trace.symbols()? {
                Some((path, list)) => Ok(Arc::new(symbols::list(&path, list)?)),
                None => Ok(Arc::default()),
            };
        };
        let symbols = symbols::read(path)?;
        if let Some(offset) = self.symbols_offset {
            return Ok(Arc::new(symbols.moved(offset)));
        }
        let seen = image(trace)?;
        match symbols::find_offset(&symbols, seen) {
            Offset::AsTheyAre => Ok(Arc::new(symbols)),
            Offset::Derived(offset) => Ok(Arc::new(symbols.moved(offset))),
            Offset::Unknown { fitting, linked } => Err(SymbolsError::Offset {
                path: path.clone(),
                fitting,
                seen: words(seen),
                linked,
            }
            .into()),
        }
    }
}

fn words(seen: Image) -> String {
    let [low, high] = seen.span.unwrap_or_default();
    format!(
        "{} in the kernel's image, from {low} to {high}",
        rips(seen.faults)
    )
}

fn rips(faults: u64) -> String {
    match faults {
        1 => "1 rip".to_owned(),
        faults => format!("{} rips", crate::text::units::count(faults)),
    }
}

/// The kernel's instructions among those of the faults.
fn image(trace: &Trace) -> Result<Image, TraceError> {
    let frame = trace.frame::<FaultRow>(Some(&["rip"]))?;
    let column = frame.column("rip").and_then(|column| column.u64());
    let column = column.map_err(|error| TraceError::Column {
        path: trace.path().join(FaultRow::KIND),
        column: "rip".to_owned(),
        why: error.to_string(),
    })?;
    let mut image = Image::default();
    for rip in column.iter().flatten() {
        image.add(events::Gva(rip));
    }
    Ok(image)
}
