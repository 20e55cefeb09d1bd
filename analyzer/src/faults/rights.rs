//! Whether an entry allows an access.

use events::{ErrorCode, Spte};

/// Whether a present entry refuses the access of a fault.
pub fn refuses(spte: Spte, error: ErrorCode) -> bool {
    (error.is_write() && !spte.is_writable())
        || (error.is_fetch() && !spte.is_executable())
        || (error.has(ErrorCode::USER) && !spte.is_user())
}
