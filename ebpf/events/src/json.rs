//! The types as JSON, for user space.
//!
//! Addresses, frames, table entries and roles are hexadecimal strings: a JSON reader that keeps numbers
//! as doubles would round those above 2^53. Counts and times are numbers; enums are their names.

use serde::{Serialize, Serializer};

use crate::{
    Act, Cause, Class, ErrorCode, Gfn, Gpa, Gpte, Gva, HostEvent, Hpa, Hva, Level, PageEvent, Pfn,
    Role, Seq, Spte, TimeNs, VcpuId, VmId,
};

macro_rules! serialize {
    ($($name:ident),+ as |$value:ident, $serializer:ident| $how:expr) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, $serializer: S) -> Result<S::Ok, S::Error> {
                let $value = self;
                $how
            }
        }
    )+};
}

serialize!(Gva, Gpa, Gfn, Hva, Hpa, Pfn, Gpte, Spte as |value, serializer| {
    serializer.collect_str(value)
});
serialize!(Seq, TimeNs as |value, serializer| serializer.serialize_u64(value.0));
serialize!(VmId, VcpuId as |value, serializer| serializer.serialize_u16(value.0));
serialize!(ErrorCode as |value, serializer| serializer.serialize_u32(value.0));
serialize!(Role as |value, serializer| {
    serializer.collect_str(&format_args!("{:#x}", value.0))
});
serialize!(Level as |value, serializer| serializer.serialize_u8(value.0));
serialize!(Act, Cause, Class, HostEvent, PageEvent as |value, serializer| {
    serializer.serialize_str(value.name())
});
