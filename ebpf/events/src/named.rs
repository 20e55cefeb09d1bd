//! One way to define an enum that has a number in a record and a name in a trace.

/// Defines the enum and what converts it: `ALL`, `from_raw`, `name`, `from_name`.
///
/// The variants are listed in the order of their numbers. Numbers and names are never reused.
macro_rules! named_enum {
    (
        $(#[$doc:meta])*
        $name:ident: $raw:ident;
        $(
            $(#[$variant_doc:meta])*
            $variant:ident = $number:literal $text:literal,
        )*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr($raw)]
        pub enum $name {
            $(
                $(#[$variant_doc])*
                $variant = $number,
            )*
        }

        impl $name {
            /// Every variant, in the order of their numbers.
            pub const ALL: [Self; [$($number),*].len()] = [$(Self::$variant),*];

            /// The variant with this number, if there is one.
            pub const fn from_raw(raw: $raw) -> Option<Self> {
                match raw {
                    $($number => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Its name in traces and reports.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The variant with this name, if there is one.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use named_enum;

#[cfg(test)]
mod tests {
    use crate::{Cause, Class, HostEvent, PageEvent, Probe};

    /// Each variant is found by its number and by its name, and numbers are in order.
    macro_rules! check {
        ($name:ident: $raw:ident) => {{
            for variant in $name::ALL {
                assert_eq!($name::from_raw(variant as $raw), Some(variant));
                assert_eq!($name::from_name(variant.name()), Some(variant));
            }
            assert!($name::ALL.is_sorted_by(|a, b| (*a as $raw) < *b as $raw));
            assert_eq!($name::from_raw($raw::MAX), None);
            assert_eq!($name::from_name(""), None);
        }};
    }

    #[test]
    fn numbers_and_names_lead_back_to_their_variant() {
        check!(Class: u8);
        check!(Cause: u8);
        check!(PageEvent: u8);
        check!(HostEvent: u8);
        check!(Probe: u32);
    }
}
