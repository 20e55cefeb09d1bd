//! Which struct a record is, and where it counts when it is lost.

use bytemuck::Pod;

use crate::{
    ActDone, Entry, Fault, Host, KeyframePage, KeyframeRoot, Mark, PaeRoot, Page, Probe, Root,
    Write,
};

/// A struct that travels through the ring. It begins with a [`crate::Header`]. Entries follow a
/// [`KeyframePage`].
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
            /// The kind with this number, if there is one.
            pub const fn from_raw(raw: u16) -> Option<Self> {
                match raw {
                    $($number => Some(Self::$record),)*
                    _ => None,
                }
            }
        }

        $(
            impl Record for $record {
                const KIND: RecordKind = RecordKind::$record;
                const LOST_BY: Probe = Probe::$probe;
            }

            // The kernel side fills whole words.
            const _: () = assert!(size_of::<$record>() % 8 == 0);
        )*
    };
}

records! {
    Fault = 1, lost by Fault;
    Entry = 2, lost by Entry;
    Page = 3, lost by Page;
    Root = 4, lost by Root;
    Mark = 5, lost by Mark;
    Write = 7, lost by Write;
    Host = 8, lost by Host;
    KeyframeRoot = 10, lost by Root;
    ActDone = 11, lost by Act;
    KeyframePage = 12, lost by Keyframe;
    PaeRoot = 13, lost by Root;
}
