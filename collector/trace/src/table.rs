//! Rows of one kind, as a struct for code and as a frame for files.

use polars::prelude::*;

use crate::TraceError;

/// One column, for documentation and for `--help`-like listings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Name in the Parquet file.
    pub name: &'static str,
    /// Type of its values.
    pub dtype: &'static str,
    /// Whether it may hold nulls ("absent on this platform").
    pub nullable: bool,
    /// What it says, its unit, when it is absent.
    pub doc: &'static str,
}

/// A kind of record, for documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindInfo {
    /// Name of the folder.
    pub name: &'static str,
    /// The columns, in order.
    pub columns: &'static [ColumnInfo],
}

/// A kind of record: its folder, its columns, and the way to and from a frame.
pub trait Row: Sized {
    /// Name of the folder.
    const KIND: &'static str;
    /// The columns, in order.
    const COLUMNS: &'static [ColumnInfo];

    /// Place of the row in the order of all records.
    fn seq(&self) -> events::Seq;
    /// When.
    fn time(&self) -> events::TimeNs;
    /// Which VM.
    fn vm(&self) -> events::VmId;
    /// Rows to columns.
    fn to_frame(rows: &[Self]) -> PolarsResult<DataFrame>;
    /// Columns to rows; `path` is only for the error.
    fn from_frame(frame: &DataFrame, path: &std::path::Path) -> Result<Vec<Self>, TraceError>;
}

/// The cells of one column of `frame`.
pub(crate) fn cells<C: crate::Cell>(
    frame: &DataFrame,
    name: &str,
    path: &std::path::Path,
) -> Result<Vec<C>, TraceError> {
    let error = |why| TraceError::Column {
        path: path.to_owned(),
        column: name.to_owned(),
        why,
    };
    match frame.column(name) {
        Ok(column) => C::cells(column).map_err(error),
        Err(_) => C::missing(frame.height()).ok_or_else(|| error("missing".to_owned())),
    }
}

macro_rules! table {
    (
        $(#[derive($derived:ident)])?
        $(#[doc = $kind_doc:literal])+
        $name:ident in $kind:literal {
            $( $(#[doc = $doc:literal])+ $field:ident: $ty:ty, )+
        }
    ) => {
        $(#[doc = $kind_doc])+
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize $(, $derived)?)]
        pub struct $name {
            $( $(#[doc = $doc])+ pub $field: $ty, )+
        }

        impl $crate::Row for $name {
            const KIND: &'static str = $kind;
            const COLUMNS: &'static [$crate::ColumnInfo] = &[
                $( $crate::ColumnInfo {
                    name: stringify!($field),
                    dtype: <$ty as $crate::Cell>::TYPE,
                    nullable: <$ty as $crate::Cell>::NULLABLE,
                    doc: concat!($($doc,)+),
                }, )+
            ];

            fn seq(&self) -> events::Seq {
                self.seq
            }

            fn time(&self) -> events::TimeNs {
                self.time_ns
            }

            fn vm(&self) -> events::VmId {
                self.vm
            }

            fn to_frame(
                rows: &[Self],
            ) -> polars::prelude::PolarsResult<polars::prelude::DataFrame> {
                polars::prelude::DataFrame::new(rows.len(), vec![
                    $( <$ty as $crate::Cell>::column(
                        stringify!($field),
                        rows.iter().map(|row| row.$field.clone()),
                    ), )+
                ])
            }

            fn from_frame(
                frame: &polars::prelude::DataFrame,
                path: &std::path::Path,
            ) -> Result<Vec<Self>, $crate::TraceError> {
                $(
                    let $field = $crate::table::cells::<$ty>(frame, stringify!($field), path)?;
                    let mut $field = $field.into_iter();
                )+
                let mut rows = Vec::with_capacity(frame.height());
                // Every column has the frame's height, so all iterators end together.
                while let ($( Some($field), )+) = ($( $field.next(), )+) {
                    rows.push(Self { $( $field, )+ });
                }
                Ok(rows)
            }
        }
    };
}
pub(crate) use table;
