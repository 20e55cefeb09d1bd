//! Names of the guest's functions, by address.
//!
//! ```text
//! file     a file of symbols, whatever its format
//! elf      an ELF file's table of symbols
//! listing  kallsyms, System.map and `nm`: a line for each
//! table    which function an address is in
//! offset   where the guest's kernel was loaded (KASLR)
//! ```

mod elf;
mod error;
mod file;
mod listing;
mod offset;
mod table;

pub use error::SymbolsError;
pub use file::{list, read};
pub use offset::{Image, Offset, find_offset};
pub use table::{Symbols, short};
