//! What the VMM tells the guest while it runs.

/// At [`crate::layout::HOST_PAGE`]; zero at first. The VMM writes, the guest reads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostPage {
    /// Passes that the host's actors have finished, all together: a guest that wants to be
    /// disturbed goes on until it has seen enough of them.
    pub passes: u64,
}
