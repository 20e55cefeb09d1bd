//! What a trace of KVM's shadow MMU says.
//!
//! [`replay`] rebuilds the shadow tables from records and [`faults`] counts and times; [`study`] does
//! both in one reading. [`explain`] tells one fault, one change or one page's life, [`table`] shows one
//! moment, [`summary`],
//! [`verify`] and [`verdict`] say what a trace holds and whether it can be trusted. [`figures`] has
//! the data of each figure, [`render`] draws them, [`report`] puts all on one page. [`cli`] is the
//! command line. Replay knows no files, figures no drawing, the report not how a number was computed.

#![cfg_attr(
    test,
    allow(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "tests use small numbers"
    )
)]

pub mod cli;
pub mod explain;
pub mod faults;
pub mod figures;
pub mod render;
pub mod replay;
pub mod report;
pub mod study;
pub mod summary;
pub mod table;
pub mod text;
pub mod verdict;
pub mod verify;
