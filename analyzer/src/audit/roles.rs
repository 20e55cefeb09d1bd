//! The fields of a role word that the checks compare.

use std::collections::BTreeMap;

use events::Role;

/// Lowest bit and width of each field; none where the trace does not have it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Roles {
    pub(super) invalid: Field,
    pub(super) quadrant: Field,
    pub(super) four_bytes: Field,
    pub(super) passthrough: Field,
    pub(super) guest_mode: Field,
    pub(super) smm: Field,
}

/// A field of a role word.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Field(Option<[u8; 2]>);

impl Field {
    /// Its value in a role; none where the layout lacks it.
    pub(super) fn of(self, role: Role) -> Option<u32> {
        let [bit, width] = self.0?;
        let value = role.0.checked_shr(bit.into())?;
        let mask = match 1_u32.checked_shl(width.into()) {
            Some(end) => end - 1,
            None => u32::MAX,
        };
        Some(value & mask)
    }

    /// Whether it is known, and not zero.
    pub(super) fn is_set(self, role: Role) -> bool {
        self.of(role).is_some_and(|value| value != 0)
    }
}

impl Roles {
    /// By `role` of `meta.json`.
    pub(super) fn of(role: &BTreeMap<String, [u8; 2]>) -> Self {
        let field = |name: &str| Field(role.get(name).copied().filter(|[_, width]| *width > 0));
        Self {
            invalid: field("invalid"),
            quadrant: field("quadrant"),
            four_bytes: field("has_4_byte_gpte"),
            passthrough: field("passthrough"),
            guest_mode: field("guest_mode"),
            smm: field("smm"),
        }
    }
}
