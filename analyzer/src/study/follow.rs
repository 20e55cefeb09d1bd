//! What follows the records of one VM.

use events::VmId;
use trace::{Meta, Record, Sees, VmMeta};

use super::{RecordStudy, StudyError};
use crate::replay::VmReplay;

/// The VM that is followed.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its number.
    pub vm: VmId,
    /// The recording.
    pub recording: &'a Meta,
    /// Its metadata; absent for a VM that only records name.
    pub meta: Option<&'a VmMeta>,
    /// First and last time of the trace, ns.
    pub span_ns: [u64; 2],
}

/// An analysis of one VM, fed with each of its records in order.
///
/// Several make one reading of a trace: a pair of analyses is an analysis.
pub trait Follow {
    /// The next record, before replay applies it: the tables as they were.
    fn before(&mut self, record: &Record, tables: Option<&VmReplay>) {
        let _ = (record, tables);
    }

    /// The same record, once replay has applied it.
    fn after(&mut self, record: &Record, tables: Option<&VmReplay>);

    /// Takes out what needs no tables. Another thread gives it the same records; it is back before
    /// [`Follow::finish`].
    fn part_with(&mut self) -> Option<RecordStudy> {
        None
    }

    /// Takes back what was taken out.
    fn take_back(&mut self, records: RecordStudy) {
        let _ = records;
    }

    /// There are no more records.
    fn finish(&mut self, tables: Option<&VmReplay>, sees: Sees) -> Result<(), StudyError> {
        let _ = (tables, sees);
        Ok(())
    }
}

impl<A: Follow, B: Follow> Follow for (A, B) {
    fn before(&mut self, record: &Record, tables: Option<&VmReplay>) {
        self.0.before(record, tables);
        self.1.before(record, tables);
    }

    fn after(&mut self, record: &Record, tables: Option<&VmReplay>) {
        self.0.after(record, tables);
        self.1.after(record, tables);
    }

    fn finish(&mut self, tables: Option<&VmReplay>, sees: Sees) -> Result<(), StudyError> {
        self.0.finish(tables, sees)?;
        self.1.finish(tables, sees)
    }
}
