//! Reads traces of KVM's shadow MMU.
//!
//! [`replay`] rebuilds the shadow tables from records, and [`faults`] counts and times; [`study`]
//! does both in one pass. [`explain`] explains one fault, one change or the life of one page,
//! [`table`] shows one moment, [`audit`] checks invariants, [`refaults`] joins faults with what
//! made them necessary, [`pathologies`] finds what is wrong. [`summary`], [`verify`] and
//! [`verdict`] give the numbers of a trace and whether it can be trusted, [`fleet`] those of
//! several. [`playback`] has the tables at every record in few bytes, for a page that shows any
//! moment. [`text`] has the tables that all of them print, [`figures`] the data of each figure,
//! [`render`] draws them, [`report`] puts everything on one page. [`export`] gives other tools
//! what they read. [`cli`] is the command line. Replay knows no files, figures no drawing, the
//! report no computing.

// Printing panics where a terminal was closed: `cli::output` has what does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "tests use small numbers"
    )
)]

pub mod audit;
pub mod cli;
pub mod diff;
pub mod explain;
pub mod export;
pub mod faults;
pub mod figures;
pub mod find;
pub mod fleet;
pub mod import;
pub mod lesson;
pub mod listing;
pub mod memory;
pub mod paper;
pub mod pathologies;
pub mod playback;
pub mod refaults;
pub mod render;
pub mod replay;
pub mod report;
pub mod study;
pub mod summary;
pub mod sweep;
pub mod symbols;
pub mod table;
pub mod text;
pub mod top;
pub mod verdict;
pub mod verify;
