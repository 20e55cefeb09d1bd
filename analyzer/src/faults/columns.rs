//! The faults of one VM as columns, gathered while the trace is read once.

use events::{Class, Seq};
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
    /// How many there are.
    pub const COUNT: usize = 10;

    /// Every step.
    pub const ALL: [FaultStep; Self::COUNT] = [
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
    pub const fn of(self, row: &FaultRow) -> Option<u64> {
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

/// Times of faults, in memory at half their width.
#[derive(Clone, Debug, Default)]
struct Times {
    short: Vec<u32>,
    /// Those that are too long, each with its place.
    long: Vec<(usize, u64)>,
}

/// A time within [`Times::short`] that is absent.
const ABSENT: u32 = u32::MAX;
/// One that is in [`Times::long`]: it takes 4.3 s or longer.
const LONG: u32 = ABSENT - 1;

impl Times {
    fn push(&mut self, ns: Option<u64>) {
        let short = match ns {
            None => ABSENT,
            Some(ns) => u32::try_from(ns).unwrap_or(LONG).min(LONG),
        };
        if let (LONG, Some(ns)) = (short, ns) {
            self.long.push((self.short.len(), ns));
        }
        self.short.push(short);
    }

    fn is_empty(&self) -> bool {
        self.short.is_empty()
    }

    /// Those from one place to before another.
    fn part(&self, from: usize, to: usize) -> impl Iterator<Item = Option<u64>> {
        let first = self.long.partition_point(|(place, _)| *place < from);
        let mut long = self.long.iter().skip(first);
        let short = self.short.get(from..to).unwrap_or_default().iter();
        short.map(move |short| match *short {
            ABSENT => None,
            LONG => long.next().map(|(_, ns)| *ns),
            short => Some(u64::from(short)),
        })
    }
}

/// Numbers of records, in memory at half their width.
#[derive(Clone, Debug, Default)]
struct Seqs {
    low: Vec<u32>,
    /// Where the upper half changes, and to what: one entry in most traces.
    high: Vec<(usize, u32)>,
}

impl Seqs {
    fn push(&mut self, seq: Seq) {
        let [high, low] = halves(seq.0);
        if self.high.last().is_none_or(|(_, last)| *last != high) {
            self.high.push((self.low.len(), high));
        }
        self.low.push(low);
    }

    fn get(&self, at: usize) -> Option<Seq> {
        let low = *self.low.get(at)?;
        let after = self.high.partition_point(|(from, _)| *from <= at);
        let (_, high) = self.high.get(after.checked_sub(1)?)?;
        Some(Seq(u64::from(*high) << 32 | u64::from(low)))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "each half has 32 bits")]
const fn halves(number: u64) -> [u32; 2] {
    [(number >> 32) as u32, number as u32]
}

/// The faults of one VM, one vector a column.
#[derive(Clone, Debug, Default)]
pub struct FaultColumns {
    class: Vec<Class>,
    phase: Vec<u16>,
    in_range: Vec<bool>,
    total: Times,
    /// Places of the faults whose thread was switched out meanwhile.
    switched: Vec<usize>,
    /// Some fault says whether it was.
    knows_switches: bool,
    seq: Seqs,
    /// Empty for a step that no fault so far has.
    steps: [Times; FaultStep::COUNT],
}

impl FaultColumns {
    /// Adds a fault that happened in the `phase`th phase.
    pub fn push(&mut self, row: &FaultRow, phase: u16, in_range: bool) {
        self.class.push(row.class);
        self.phase.push(phase);
        self.in_range.push(in_range);
        self.seq.push(row.seq);
        self.total.push(Some(row.total_ns));
        let before = self.class.len() - 1;
        self.knows_switches |= row.switches.is_some();
        if row.switches.is_some_and(|times| times > 0) {
            self.switched.push(before);
        }
        for (column, step) in self.steps.iter_mut().zip(FaultStep::ALL) {
            let time = step.of(row);
            // A step that this platform never shows needs no memory.
            if time.is_some() && column.is_empty() {
                column.short.resize(before, ABSENT);
            }
            if time.is_some() || !column.is_empty() {
                column.push(time);
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
    pub fn totals(&self) -> impl Iterator<Item = (Class, u64)> {
        self.stretch(0, self.len())
    }

    /// Class and time of the faults from one place to before another.
    fn stretch(&self, from: usize, to: usize) -> impl Iterator<Item = (Class, u64)> {
        let classes = self.class.get(from..to).unwrap_or_default().iter().copied();
        // Each fault has a total.
        let totals = self.total.part(from, to).map(Option::unwrap_or_default);
        classes.zip(totals)
    }

    /// Of each, whether its address is in the workload's range.
    pub(super) fn in_range(&self) -> impl Iterator<Item = bool> {
        self.in_range.iter().copied()
    }

    /// Whether any fault says if its thread was switched out meanwhile.
    pub(super) fn knows_switches(&self) -> bool {
        self.knows_switches
    }

    /// Class and time of each fault, and whether its thread was switched out meanwhile.
    pub(super) fn with_switches(&self) -> impl Iterator<Item = (Class, u64, bool)> {
        let mut switched = self.switched.iter().copied().peekable();
        self.totals().enumerate().map(move |(place, (class, ns))| {
            let was = switched.next_if_eq(&place).is_some();
            (class, ns, was)
        })
    }

    /// Number of the first fault of a class that took this long, among all faults of the VM.
    pub fn position(&self, class: Class, total_ns: u64) -> Option<u64> {
        u64::try_from(self.first(class, total_ns)?).ok()
    }

    /// Record of that fault.
    pub fn seq(&self, class: Class, total_ns: u64) -> Option<Seq> {
        self.seq.get(self.first(class, total_ns)?)
    }

    fn first(&self, class: Class, total_ns: u64) -> Option<usize> {
        self.totals().position(|fault| fault == (class, total_ns))
    }

    /// Class and time of one step, of each fault that has it.
    pub(super) fn step(&self, step: FaultStep) -> impl Iterator<Item = (Class, u64)> {
        let columns = FaultStep::ALL.into_iter().zip(&self.steps);
        let column = columns.filter(move |(of, _)| *of == step);
        column
            .flat_map(|(_, column)| {
                let classes = self.class.iter().copied();
                classes.zip(column.part(0, column.short.len()))
            })
            .filter_map(|(class, ns)| Some((class, ns?)))
    }

    /// The faults of each stretch in one phase: the phase, then class and time of each fault.
    pub(super) fn phases(&self) -> impl Iterator<Item = (u16, impl Iterator<Item = (Class, u64)>)> {
        let mut from = 0;
        let stretches = self.phase.chunk_by(|one, other| one == other);
        stretches.filter_map(move |stretch| {
            let to = from + stretch.len();
            let faults = self.stretch(from, to);
            from = to;
            Some((*stretch.first()?, faults))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_any_length_come_back_whole() {
        let most = u64::from(u32::MAX);
        let times = [
            Some(7),
            None,
            Some(most - 2),
            Some(most - 1),
            Some(most),
            Some(most + 1),
        ];
        let times: Vec<_> = times
            .into_iter()
            .chain([None, Some(u64::MAX), Some(0)])
            .collect();
        let mut column = Times::default();
        for time in &times {
            column.push(*time);
        }
        for from in 0..=times.len() {
            for to in from..=times.len() {
                assert!(column.part(from, to).eq(times[from..to].iter().copied()));
            }
        }
    }

    #[test]
    fn numbers_of_records_come_back_whole() {
        let numbers = [0, 7, u64::from(u32::MAX), 1 << 32, 5 << 32 | 9, u64::MAX, 3];
        let mut seqs = Seqs::default();
        for number in numbers {
            seqs.push(Seq(number));
        }
        let back = (0..numbers.len()).map(|at| seqs.get(at));
        assert!(back.eq(numbers.map(|number| Some(Seq(number)))));
        assert_eq!(seqs.get(numbers.len()), None);
    }
}
