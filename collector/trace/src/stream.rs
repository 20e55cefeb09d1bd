//! Rows of one kind, in order, a few at a time.
//!
//! A stretch stays in its columns; only a slice of it is ever turned into rows, so that memory
//! stays small and is used again.

use std::path::{Path, PathBuf};

use events::Seq;
use polars::prelude::*;

use crate::{KeyframePage, Row, TraceError, pages, stretches::Columns};

/// What a stream gives.
pub(crate) trait Item: Sized {
    /// Rows taken apart at a time: little enough to stay in a core's cache.
    const SLICE: usize;

    /// Place in the order of all records.
    fn seq(&self) -> Seq;
    /// Takes a slice apart; `path` is only for the error.
    fn items(frame: &DataFrame, path: &Path) -> Result<Vec<Self>, TraceError>;
    /// Whether an item may come in parts, which share its number.
    const IN_PARTS: bool = false;
    /// Adds the next part.
    fn extend(&mut self, _part: Self) {}
}

impl<R: Row> Item for R {
    const SLICE: usize = 512;

    fn seq(&self) -> Seq {
        Row::seq(self)
    }

    fn items(frame: &DataFrame, path: &Path) -> Result<Vec<Self>, TraceError> {
        R::from_frame(frame, path)
    }
}

impl Item for KeyframePage {
    const SLICE: usize = 8192;

    fn seq(&self) -> Seq {
        self.seq
    }

    fn items(frame: &DataFrame, path: &Path) -> Result<Vec<Self>, TraceError> {
        pages::from_frame(frame, path)
    }

    const IN_PARTS: bool = true;

    fn extend(&mut self, part: Self) {
        self.entries.extend(part.entries);
        self.gfns.extend(part.gfns);
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Stream<R> {
    /// Passed on: to be turned into rows.
    ready: DataFrame,
    /// How much of `ready` has been.
    done: usize,
    /// Held back until the next stretch has been read.
    held: DataFrame,
    /// Where the latest rows came from, for errors.
    path: PathBuf,
    rows: std::vec::IntoIter<R>,
}

impl<R> Default for Stream<R> {
    fn default() -> Self {
        Self {
            ready: DataFrame::default(),
            done: 0,
            held: DataFrame::default(),
            path: PathBuf::new(),
            rows: Vec::new().into_iter(),
        }
    }
}

impl<R: Item> Stream<R> {
    /// Takes the kind's rows of a stretch, if it has any, and passes on what is numbered up
    /// to `until`. To be called when all that was passed on before has been taken.
    pub(crate) fn load(&mut self, columns: Columns, until: Option<u64>) -> Result<(), TraceError> {
        if let Some((frame, path)) = columns {
            self.path = path;
            self.held = match self.held.height() {
                0 => frame,
                _ => self.held.vstack(&frame).map_err(failed(&self.path))?,
            };
            if !is_sorted(&self.held, &self.path)? {
                // Rows of one keyframe page share a number and must stay in their order.
                let options = SortMultipleOptions::default().with_maintain_order(true);
                self.held = self
                    .held
                    .sort(["seq"], options)
                    .map_err(failed(&self.path))?;
            }
        }
        let Some(until) = until else { return Ok(()) };
        let split = numbers(&self.held, &self.path)?.map_or(0, |seq| {
            seq.into_no_null_iter()
                .take_while(|&seq| seq <= until)
                .count()
        });
        (self.ready, self.held) = self.held.split_at(offset(split));
        self.done = 0;
        Ok(())
    }

    /// The number of the next row that was passed on.
    pub(crate) fn peek(&mut self) -> Result<Option<Seq>, TraceError> {
        if self.rows.as_slice().is_empty() && self.done < self.ready.height() {
            let slice = self.ready.slice(offset(self.done), R::SLICE);
            self.done += slice.height();
            self.rows = R::items(&slice, &self.path)?.into_iter();
        }
        Ok(self.rows.as_slice().first().map(Item::seq))
    }

    /// Gives `each` the rows that come before `others`, at most `most`; at least the first that was
    /// announced, since two kinds may have one number.
    pub(crate) fn take(
        &mut self,
        others: Seq,
        most: usize,
        mut each: impl FnMut(R),
    ) -> Result<(), TraceError> {
        let mut taken = 0;
        while taken < most
            && self
                .peek()?
                .is_some_and(|front| taken == 0 || front < others)
        {
            if R::IN_PARTS {
                self.next()?.into_iter().for_each(&mut each);
                taken += 1;
                continue;
            }
            let rows = self.rows.as_slice().iter().take(most - taken);
            let run = rows.take_while(|row| row.seq() < others).count().max(1);
            self.rows.by_ref().take(run).for_each(&mut each);
            taken += run;
        }
        Ok(())
    }

    /// The row that [`Stream::peek`] announced, with all its parts.
    fn next(&mut self) -> Result<Option<R>, TraceError> {
        let Some(mut row) = self.rows.next() else {
            return Ok(None);
        };
        if R::IN_PARTS {
            while self.peek()? == Some(row.seq())
                && let Some(part) = self.rows.next()
            {
                row.extend(part);
            }
        }
        Ok(Some(row))
    }
}

/// A frame has at most [`crate::segments::MAX_ROWS`] rows of each stretch held back.
fn offset(row: usize) -> i64 {
    i64::try_from(row).unwrap_or(i64::MAX)
}

fn failed(path: &Path) -> impl FnOnce(PolarsError) -> TraceError {
    let path = path.to_owned();
    move |error| TraceError::Encode {
        path,
        why: error.to_string(),
    }
}

/// The column of sequence numbers; `None` in a frame that was never filled.
fn numbers<'a>(frame: &'a DataFrame, path: &Path) -> Result<Option<&'a UInt64Chunked>, TraceError> {
    if frame.width() == 0 {
        return Ok(None);
    }
    let column = |error: PolarsError| TraceError::Column {
        path: path.to_owned(),
        column: "seq".to_owned(),
        why: error.to_string(),
    };
    let seq = frame
        .column("seq")
        .and_then(|seq| seq.u64())
        .map_err(column)?;
    if seq.null_count() > 0 {
        return Err(column(polars_err!(ComputeError: "nulls where none may be")));
    }
    Ok(Some(seq))
}

fn is_sorted(frame: &DataFrame, path: &Path) -> Result<bool, TraceError> {
    Ok(numbers(frame, path)?.is_none_or(|seq| seq.into_no_null_iter().is_sorted()))
}
