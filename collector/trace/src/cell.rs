//! How one value of a record becomes one cell of a column, and back.

use std::borrow::Cow;

use events::{
    Act, Cause, Class, ErrorCode, Gfn, Gpa, Gpte, Gva, HostEvent, Hpa, Hva, Level, PageEvent, Pfn,
    Role, Seq, Spte, TimeNs, VcpuId, VmId,
};
use polars::prelude::*;

use crate::kinds::Slot;

/// A type that fills a column.
pub trait Cell: Clone {
    /// Whether the column may hold nulls; such a column may also be missing altogether.
    const NULLABLE: bool;
    /// The type of the column as Parquet readers show it.
    const TYPE: &'static str;

    /// Builds the column.
    fn column(name: &str, cells: impl ExactSizeIterator<Item = Self>) -> Column;

    /// Takes the column apart; the error says what was found instead.
    fn cells(column: &Column) -> Result<Vec<Self>, String>;

    /// A column that an older trace does not have.
    fn missing(rows: usize) -> Option<Vec<Self>>;
}

macro_rules! number_cell {
    ($read:path, $native:ty, $of:ty: $($ty:ty, $to:expr, $from:expr;)+) => {$(
        impl Cell for $ty {
            const NULLABLE: bool = false;
            const TYPE: &'static str = stringify!($native);

            fn column(name: &str, cells: impl ExactSizeIterator<Item = Self>) -> Column {
                let to: fn($ty) -> $native = $to;
                Column::new(name.into(), cells.map(to).collect::<Vec<$native>>())
            }

            fn cells(column: &Column) -> Result<Vec<Self>, String> {
                let from: fn($native) -> $ty = $from;
                let cells = &*$read(column)?;
                if cells.null_count() > 0 {
                    return Err(format!("{} nulls where none may be", cells.null_count()));
                }
                let mut values = Vec::with_capacity(cells.len());
                for array in cells.downcast_iter() {
                    values.extend(array.values_iter().map(|cell| from(*cell)));
                }
                Ok(values)
            }

            fn missing(_: usize) -> Option<Vec<Self>> {
                None
            }
        }

        impl Cell for Option<$ty> {
            const NULLABLE: bool = true;
            const TYPE: &'static str = stringify!($native);

            fn column(name: &str, cells: impl ExactSizeIterator<Item = Self>) -> Column {
                let to: fn($ty) -> $native = $to;
                let mut values = Vec::<$native>::with_capacity(cells.len());
                let mut valid = Vec::with_capacity(cells.len());
                for cell in cells {
                    valid.push(cell.is_some());
                    values.push(cell.map_or(0, to));
                }
                // Most columns have a value in each row, or in none.
                let valid = valid.contains(&false).then(|| valid.into_iter().collect());
                ChunkedArray::<$of>::from_vec_validity(name.into(), values, valid)
                    .into_series()
                    .into_column()
            }

            fn cells(column: &Column) -> Result<Vec<Self>, String> {
                let from: fn($native) -> $ty = $from;
                let cells = &*$read(column)?;
                if cells.null_count() == cells.len() {
                    return Ok(vec![None; cells.len()]);
                }
                let mut values = Vec::with_capacity(cells.len());
                for array in cells.downcast_iter() {
                    let all = array.values_iter().map(|cell| Some(from(*cell)));
                    match array.validity() {
                        None => values.extend(all),
                        Some(valid) => values.extend(
                            all.zip(valid.iter()).map(|(cell, valid)| cell.filter(|_| valid)),
                        ),
                    }
                }
                Ok(values)
            }

            fn missing(rows: usize) -> Option<Vec<Self>> {
                Some(vec![None; rows])
            }
        }
    )+};
}

macro_rules! read {
    ($($name:ident $accessor:ident $of:ty;)+) => {$(
        fn $name(column: &Column) -> Result<Cow<'_, ChunkedArray<$of>>, String> {
            let cells = column.$accessor().map_err(|error| error.to_string())?;
            Ok(Cow::Borrowed(cells))
        }
    )+};
}

read! {
    read_u8 u8 UInt8Type;
    read_u16 u16 UInt16Type;
    read_u32 u32 UInt32Type;
}

/// Durations had 32 bits up to 0.2.
fn read_u64(column: &Column) -> Result<Cow<'_, UInt64Chunked>, String> {
    if *column.dtype() != DataType::UInt32 {
        let cells = column.u64().map_err(|error| error.to_string())?;
        return Ok(Cow::Borrowed(cells));
    }
    let wider = column.cast(&DataType::UInt64);
    let wider = wider.map_err(|error| error.to_string())?;
    let cells = wider.u64().map_err(|error| error.to_string())?;
    Ok(Cow::Owned(cells.clone()))
}

number_cell! { read_u8, u8, UInt8Type:
    u8, |cell| cell, |cell| cell;
    Level, |cell| cell.0, Level;
}
number_cell! { read_u16, u16, UInt16Type:
    u16, |cell| cell, |cell| cell;
    VmId, |cell| cell.0, VmId;
    VcpuId, |cell| cell.0, VcpuId;
    Slot, |cell| cell.0, Slot;
}
number_cell! { read_u32, u32, UInt32Type:
    u32, |cell| cell, |cell| cell;
    Role, |cell| cell.0, Role;
    ErrorCode, |cell| cell.0, ErrorCode;
}
number_cell! { read_u64, u64, UInt64Type:
    u64, |cell| cell, |cell| cell;
    Seq, |cell| cell.0, Seq;
    TimeNs, |cell| cell.0, TimeNs;
    Gva, |cell| cell.0, Gva;
    Gpa, |cell| cell.0, Gpa;
    Gfn, |cell| cell.0, Gfn;
    Gpte, |cell| cell.0, Gpte;
    Hva, |cell| cell.0, Hva;
    Hpa, |cell| cell.0, Hpa;
    Pfn, |cell| cell.0, Pfn;
    Spte, |cell| cell.0, Spte;
}

/// Longest free name, bytes.
const LONGEST_NAME: usize = 64;

/// Names are stored as text: any reader understands them, and a dictionary keeps them small.
macro_rules! name_cell {
    ($($ty:ty, $to:expr, $from:expr;)+) => {$(
        impl Cell for $ty {
            const NULLABLE: bool = false;
            const TYPE: &'static str = "str";

            fn column(name: &str, cells: impl ExactSizeIterator<Item = Self>) -> Column {
                let to: fn($ty) -> _ = $to;
                Column::new(name.into(), cells.map(to).collect::<Vec<_>>())
            }

            fn cells(column: &Column) -> Result<Vec<Self>, String> {
                let from: fn(&str) -> Option<$ty> = $from;
                let cells = column.str().map_err(|error| error.to_string())?;
                if cells.null_count() > 0 {
                    return Err(format!("{} nulls where none may be", cells.null_count()));
                }
                let mut values: Vec<Self> = Vec::with_capacity(cells.len());
                // Neighbours nearly always have one of two values: those are not looked up again.
                let mut latest: [Option<(&str, Self)>; 2] = [None, None];
                for cell in cells.downcast_iter().flat_map(|array| array.values_iter()) {
                    let known = latest.iter().flatten().find(|(name, _)| *name == cell);
                    if let Some((_, value)) = known {
                        values.push(value.clone());
                        continue;
                    }
                    let value = from(cell)
                        .ok_or_else(|| format!("unknown value `{}`", cell.escape_debug()))?;
                    latest.rotate_right(1);
                    latest[0] = Some((cell, value.clone()));
                    values.push(value);
                }
                Ok(values)
            }

            fn missing(_: usize) -> Option<Vec<Self>> {
                None
            }
        }
    )+};
}

name_cell! {
    Class, Class::name, Class::from_name;
    Cause, Cause::name, Cause::from_name;
    PageEvent, PageEvent::name, PageEvent::from_name;
    HostEvent, HostEvent::name, HostEvent::from_name;
    Act, Act::name, Act::from_name;
    String, |cell| cell, |cell| (cell.len() <= LONGEST_NAME).then(|| cell.to_owned());
}
