//! Enums whose numbers cross the border between guest and VMM.

use core::fmt;

/// A number that is none of an enum's.
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

/// Declares an enum with explicit numbers and names, and the checked way back.
macro_rules! numbered {
    (
        $(#[$outer:meta])*
        pub enum $name:ident { $( $(#[$inner:meta])* $variant:ident = $number:literal => $text:literal, )+ }
    ) => {
        $(#[$outer])*
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$inner])* $variant = $number, )+ }

        impl $name {
            /// All of them, by number.
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

            /// The one of this name.
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
