//! What the analyzer prints, and whether it is right: on recordings that the collector made
//! (`kept`), on small made-up traces whose right answers are known (`made_up`), and on damaged ones
//! (`hostile`).

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking, and use small numbers"
)]

mod hostile;
mod kept;
mod made_up;
mod support;
