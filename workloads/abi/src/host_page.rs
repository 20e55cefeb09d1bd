//! What the VMM passes to the guest while it runs.

/// At [`crate::layout::HOST_PAGE`]; zero at first. The VMM writes it, the guest reads it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostPage {
    /// Passes that the host's actors have finished, all together: a guest that must be disturbed
    /// works until there were enough of them.
    pub passes: u64,
}
