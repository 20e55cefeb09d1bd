//! The error code of a page fault.

use core::{
    fmt,
    ops::{BitAnd, BitOr},
};

use bytemuck::{Pod, Zeroable};

use crate::constants::pferr;

/// Error code of a page fault: the CPU's bits, which KVM calls `PFERR_*`. The low 32 bits of KVM's
/// own 64: the others concern nested paging and confidential guests.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    /// No bit: a read of something that is not present, by the guest's kernel.
    pub const NONE: Self = Self(0);
    /// P: the entry is present but refuses the access.
    pub const PRESENT: Self = Self(pferr::PRESENT);
    /// W: the access is a store.
    pub const WRITE: Self = Self(pferr::WRITE);
    /// U: the access came from CPL 3.
    pub const USER: Self = Self(pferr::USER);
    /// RSVD: a reserved bit is set in an entry. In a shadow entry it marks MMIO.
    pub const RSVD: Self = Self(pferr::RSVD);
    /// I/D: the access is an instruction fetch.
    pub const FETCH: Self = Self(pferr::FETCH);
    /// PK: a protection key refuses the access.
    pub const PK: Self = Self(pferr::PK);
    /// SS: the access is a shadow stack's.
    pub const SS: Self = Self(pferr::SS);
    /// SGX: an enclave's page refuses the access.
    pub const SGX: Self = Self(pferr::SGX);

    /// Each bit with its name, lowest first.
    pub const NAMES: [(Self, &'static str); 8] = [
        (Self::PRESENT, "present"),
        (Self::WRITE, "write"),
        (Self::USER, "user"),
        (Self::RSVD, "rsvd"),
        (Self::FETCH, "fetch"),
        (Self::PK, "pk"),
        (Self::SS, "ss"),
        (Self::SGX, "sgx"),
    ];

    /// Whether all bits of `bits` are set.
    pub const fn has(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// P is set.
    pub const fn is_present(self) -> bool {
        self.has(Self::PRESENT)
    }

    /// W is set: a store.
    pub const fn is_write(self) -> bool {
        self.has(Self::WRITE)
    }

    /// U is set: from CPL 3.
    pub const fn is_user(self) -> bool {
        self.has(Self::USER)
    }

    /// RSVD is set: on a shadow entry, a marker for MMIO. KVM emulates without a look at the
    /// guest's tables.
    pub const fn is_reserved(self) -> bool {
        self.has(Self::RSVD)
    }

    /// I/D is set: an instruction fetch.
    pub const fn is_fetch(self) -> bool {
        self.has(Self::FETCH)
    }

    /// The names of the bits that are set, lowest first. Bits without a name are left out.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(bit, _)| self.has(*bit))
            .map(|(_, name)| name)
    }
}

impl BitOr for ErrorCode {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for ErrorCode {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorCode({:#x})", self.0)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::ErrorCode;

    #[test]
    fn bits_have_their_names_and_questions() {
        let code = ErrorCode::WRITE | ErrorCode::USER | ErrorCode(1 << 20);
        assert!(code.names().eq(["write", "user"]));
        assert!(code.is_write() && code.is_user());
        assert!(!code.is_present() && !code.is_reserved() && !code.is_fetch());
        assert!(code.has(ErrorCode::NONE));
        assert!(!code.has(ErrorCode::WRITE | ErrorCode::PRESENT));
        assert_eq!(code & ErrorCode(0xf), ErrorCode(6));
    }

    #[test]
    fn each_name_is_one_bit() {
        for (bit, _) in ErrorCode::NAMES {
            assert_eq!(bit.0.count_ones(), 1);
        }
        assert!(ErrorCode::NAMES.is_sorted_by_key(|(bit, _)| bit.0));
    }
}
