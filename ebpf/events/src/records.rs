//! Which struct a record is, and where it counts when it is lost.

use bytemuck::Pod;

use crate::{
    Entry, Fault, Host, KeyframePage, KeyframeRoot, KeyframeTable, Mark, Page, Probe, Root, Write,
};

/// A struct that travels through the ring. It begins with a [`crate::Header`].
pub trait Record: Pod {
    /// Says so in the header.
    const KIND: RecordKind;
    /// Counts it when there is no room for it.
    const LOST_BY: Probe;
}

/// One list for the kinds and the structs.
macro_rules! records {
    ($($record:ident = $number:literal, lost by $probe:ident;)*) => {
        /// Which struct a record is. Numbers are never reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum RecordKind {
            $(
                #[doc = concat!("[`", stringify!($record), "`]")]
                $record = $number,
            )*
        }

        impl RecordKind {
            /// Every kind, in the order of their numbers.
            pub const ALL: [Self; [$($number),*].len()] = [$(Self::$record),*];

            /// The kind with this number, if there is one.
            pub const fn from_raw(raw: u16) -> Option<Self> {
                match raw {
                    $($number => Some(Self::$record),)*
                    _ => None,
                }
            }

            /// Bytes of such a record.
            pub const fn bytes(self) -> usize {
                match self {
                    $(Self::$record => size_of::<$record>(),)*
                }
            }
        }

        $(
            impl Record for $record {
                const KIND: RecordKind = RecordKind::$record;
                const LOST_BY: Probe = Probe::$probe;
            }
        )*
    };
}

records! {
    Fault = 1, lost by Fault;
    Entry = 2, lost by Entry;
    Page = 3, lost by Page;
    Root = 4, lost by Root;
    Mark = 5, lost by Mark;
    KeyframePage = 6, lost by Keyframe;
    Write = 7, lost by Write;
    Host = 8, lost by Host;
    KeyframeTable = 9, lost by Keyframe;
    KeyframeRoot = 10, lost by Root;
}

#[cfg(test)]
mod tests {
    use super::RecordKind;

    #[test]
    fn kinds_have_their_numbers_and_fill_whole_words() {
        for (kind, number) in RecordKind::ALL.into_iter().zip(1..) {
            assert_eq!(RecordKind::from_raw(number), Some(kind));
            assert_eq!(kind.bytes() % 8, 0, "{kind:?}");
        }
        assert_eq!(RecordKind::from_raw(0), None);
    }
}
