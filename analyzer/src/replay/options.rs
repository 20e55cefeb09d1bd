//! What replay must know of a recording.

use events::RoleLayout;

/// What replay must know of a recording, other than its records.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplayOptions {
    /// Where the fields of a role word are.
    pub role: RoleLayout,
    /// The VM was traced from before its first fault, so that the first keyframe verifies
    /// instead of setting the state.
    pub from_birth: bool,
    /// Every change of an entry has a record. What the fault that maps one frame too
    /// often drops (`__rmap_add`) is not inferred then, and nothing is seen late.
    pub sees_every_change: bool,
    /// Each keyframe has the root of every vCPU that has one.
    pub keyframe_roots: bool,
}
