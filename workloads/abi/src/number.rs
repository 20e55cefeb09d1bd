//! Enums whose numbers are exchanged between guest and VMM.

use core::fmt;

/// A number that an enum does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownNumber {
    /// Name of the enum.
    pub what: &'static str,
    /// The number found.
    pub found: u32,
}

impl fmt::Display for UnknownNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a number of `{}`", self.found, self.what)
    }
}

impl core::error::Error for UnknownNumber {}

/// A count or an offset as an index: host and guest are 64-bit.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "`usize` has 64 bits")]
#[inline(always)]
pub const fn to_usize(number: u64) -> usize {
    const { assert!(usize::BITS == u64::BITS) };
    number as usize
}

/// Declares an enum with explicit numbers and names, and the checked conversion from a number.
macro_rules! numbered {
    (
        $(#[$outer:meta])*
        pub enum $name:ident {
            $( $(#[$inner:meta])* $variant:ident = $number:literal => $text:literal, )+
        }
    ) => {
        $(#[$outer])*
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$inner])* $variant = $number, )+ }

        impl $name {
            /// All variants.
            pub const ALL: &'static [Self] = &[$( Self::$variant, )+];

            /// The name used in commands and traces.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $( Self::$variant => $text, )+ }
            }

            /// The number used between guest and VMM.
            #[must_use]
            pub const fn number(self) -> u32 {
                self as u32
            }

            /// The variant with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }
        }

        impl TryFrom<u32> for $name {
            type Error = $crate::UnknownNumber;

            fn try_from(found: u32) -> Result<Self, Self::Error> {
                match found {
                    $( $number => Ok(Self::$variant), )+
                    _ => Err($crate::UnknownNumber { what: stringify!($name), found }),
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

pub(crate) use numbered;
