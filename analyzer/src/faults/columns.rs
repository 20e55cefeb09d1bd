//! The faults of one VM as columns, gathered while the trace is read once.

use events::Class;
use polars::prelude::*;
use trace::FaultRow;

/// A step of a fault that the trace gives a time for, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultStep {
    /// Exit to start of the walk.
    Exit,
    /// The walk of the guest's tables.
    Walk,
    /// GPA to HVA to frame.
    Pfn,
    /// Of [`FaultStep::Pfn`], the part from HVA to frame: the host's own tables.
    Hva,
    /// Upper levels of the shadow table.
    Tables,
    /// Frame and upper levels together, where the platform does not separate them.
    PfnTables,
    /// The leaf SPTE.
    Write,
    /// Injection of the guest's own fault.
    Inject,
    /// Emulation of the instruction.
    Emulate,
    /// Last step to re-entry.
    Entry,
}

impl FaultStep {
    /// Every step.
    pub const ALL: [FaultStep; 10] = [
        Self::Exit,
        Self::Walk,
        Self::Pfn,
        Self::Hva,
        Self::Tables,
        Self::PfnTables,
        Self::Write,
        Self::Inject,
        Self::Emulate,
        Self::Entry,
    ];

    /// Its name: the trace's column without `_ns`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Walk => "walk",
            Self::Pfn => "pfn",
            Self::Hva => "hva",
            Self::Tables => "tables",
            Self::PfnTables => "pfn_tables",
            Self::Write => "write",
            Self::Inject => "inject",
            Self::Emulate => "emulate",
            Self::Entry => "entry",
        }
    }

    /// The step that it is a part of: its time is in that step's too.
    pub const fn part_of(self) -> Option<FaultStep> {
        match self {
            Self::Hva => Some(Self::Pfn),
            _ => None,
        }
    }

    /// Its name with that of the step it is a part of.
    pub fn label(self) -> String {
        match self.part_of() {
            Some(whole) => format!("{} (of {})", self.name(), whole.name()),
            None => self.name().to_owned(),
        }
    }

    /// Its time in a fault, ns; absent where the platform does not show it.
    pub const fn of(self, row: &FaultRow) -> Option<u32> {
        match self {
            Self::Exit => row.exit_ns,
            Self::Walk => row.walk_ns,
            Self::Pfn => row.pfn_ns,
            Self::Hva => row.hva_ns,
            Self::Tables => row.tables_ns,
            Self::PfnTables => row.pfn_tables_ns,
            Self::Write => row.write_ns,
            Self::Inject => row.inject_ns,
            Self::Emulate => row.emulate_ns,
            Self::Entry => row.entry_ns,
        }
    }
}

/// An absent time within a column: no fault lasts 4.3 s in one step.
const ABSENT: u32 = u32::MAX;

/// The faults of one VM, one vector a column.
#[derive(Clone, Debug, Default)]
pub struct FaultColumns {
    class: Vec<u8>,
    phase: Vec<u16>,
    in_range: Vec<u8>,
    total: Vec<u32>,
    /// Empty for a step that no fault so far has.
    steps: [Vec<u32>; FaultStep::ALL.len()],
}

impl FaultColumns {
    /// Adds a fault that happened in the `phase`th phase.
    pub fn push(&mut self, row: &FaultRow, phase: u16, in_range: bool) {
        self.class.push(row.class as u8);
        self.phase.push(phase);
        self.in_range.push(u8::from(in_range));
        self.total.push(row.total_ns);
        let before = self.total.len() - 1;
        for (column, step) in self.steps.iter_mut().zip(FaultStep::ALL) {
            let time = step.of(row);
            // A step that this platform never shows needs no memory.
            if time.is_some() && column.is_empty() {
                column.resize(before, ABSENT);
            }
            if time.is_some() || !column.is_empty() {
                column.push(time.unwrap_or(ABSENT));
            }
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.class.len()
    }

    /// No fault at all.
    pub fn is_empty(&self) -> bool {
        self.class.is_empty()
    }

    /// Class and time of each, in the order of the trace.
    pub fn totals(&self) -> impl Iterator<Item = (Option<Class>, u32)> {
        self.class
            .iter()
            .map(|class| Class::from_raw(*class))
            .zip(self.total.iter().copied())
    }

    /// Number of the first fault of a class that took this long, among all faults of the VM.
    pub fn position(&self, class: Class, total_ns: u64) -> Option<u64> {
        let found = self
            .totals()
            .position(|(of, total)| of == Some(class) && u64::from(total) == total_ns)?;
        u64::try_from(found).ok()
    }

    /// Class, phase, range and time of each as a frame.
    pub(crate) fn frame(&self) -> PolarsResult<DataFrame> {
        DataFrame::new(
            self.len(),
            vec![
                Column::new("class".into(), self.class.as_slice()),
                Column::new("phase".into(), self.phase.as_slice()),
                Column::new("in_range".into(), self.in_range.as_slice()),
                Column::new("total_ns".into(), self.total.as_slice()),
            ],
        )
    }

    /// Class and the time of one step of each as a frame; `None` if no fault has the step.
    pub(crate) fn step_frame(&self, step: FaultStep) -> PolarsResult<Option<DataFrame>> {
        let Some((_, column)) = FaultStep::ALL
            .iter()
            .zip(&self.steps)
            .find(|(other, _)| **other == step)
        else {
            return Ok(None);
        };
        if column.is_empty() {
            return Ok(None);
        }
        let times: UInt32Chunked = column
            .iter()
            .map(|ns| (*ns != ABSENT).then_some(*ns))
            .collect();
        let frame = DataFrame::new(
            self.len(),
            vec![
                Column::new("class".into(), self.class.as_slice()),
                times.with_name("ns".into()).into_series().into(),
            ],
        )?;
        Ok(Some(frame))
    }
}
