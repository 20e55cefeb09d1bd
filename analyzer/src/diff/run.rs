//! What is kept of one run: its faults by phase and class, by step, and by culprit.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use events::{Class, Gva, TimeNs};
use trace::{FaultRow, Record};

use super::blocks::Blocks;
use crate::{
    faults::{FaultStep, own_time_ns, switched_out_ns},
    listing::table_of,
    replay::VmReplay,
    study::{Follow, Study},
    symbols::{Symbols, short},
    text::units::{ns, percent, plural},
    top::Granule,
};

/// Names of phases kept apart. A workload has six.
const PHASES: usize = 64;
/// Culprits of each kind kept apart in a run; the faults of others count together.
pub const CULPRITS: usize = 4096;
/// Bits of an address within a range of GVAs: 2 MiB.
const RANGE_BITS: u32 = Granule::TABLE.shift;

/// The phase before the first mark.
const BEFORE: &str = "(before the first mark)";
/// The phases for which there is no room.
const OTHERS: &str = "(other phases)";

/// Who caused a fault, by what two runs have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum By {
    /// The guest's address space: the how-manieth root table (CR3) that faulted.
    Cr3,
    /// The guest's instruction pointer.
    Rip,
    /// The guest's function, by its name: its address may differ.
    Symbol,
    /// 2 MiB of guest-virtual addresses.
    GvaRange,
}

impl By {
    /// Every kind.
    pub const ALL: [By; 4] = [Self::Cr3, Self::Symbol, Self::Rip, Self::GvaRange];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cr3 => "cr3",
            Self::Symbol => "symbol",
            Self::Rip => "rip",
            Self::GvaRange => "gva-range",
        }
    }

    /// Name of its table.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Cr3 => "by-cr3",
            Self::Symbol => "by-symbol",
            Self::Rip => "by-rip",
            Self::GvaRange => "by-gva-range",
        }
    }

    /// Heading of its table.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Cr3 => "By address space, in the order of their first faults",
            Self::Symbol => "By guest function",
            Self::Rip => "By guest instruction",
            Self::GvaRange => "By 2 MiB of guest addresses",
        }
    }
}

/// One culprit: its VM, and the number of its CR3, its RIP, the hash of its function's name, or the
/// first GVA of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Culprit {
    /// Number of the VM.
    pub vm: u16,
    /// What the kind says.
    pub key: u64,
}

/// Faults of one phase and class, by the place of the phase's name.
type Cells = BTreeMap<(usize, Class), Blocks>;

/// The culprits of one kind in one VM.
#[derive(Clone, Debug, Default)]
struct Culprits {
    places: HashMap<u64, usize>,
    found: Vec<(u64, Blocks)>,
    /// Faults of the culprits for which there was no room.
    others: u64,
    /// The last one: most faults have the culprit of the one before.
    last: Option<(u64, usize)>,
}

impl Culprits {
    fn push(&mut self, key: u64, row: &FaultRow) {
        let place = match self.last {
            Some((last, place)) if last == key => Some(place),
            _ => self.place(key),
        };
        let Some(place) = place else {
            self.others += 1;
            return;
        };
        self.last = Some((key, place));
        if let Some((_, blocks)) = self.found.get_mut(place) {
            blocks.push(row.time_ns.0, own_time_ns(row));
        }
    }

    fn place(&mut self, key: u64) -> Option<usize> {
        if let Some(place) = self.places.get(&key) {
            return Some(*place);
        }
        if self.found.len() >= CULPRITS {
            return None;
        }
        self.places.insert(key, self.found.len());
        self.found.push((key, Blocks::totals()));
        Some(self.found.len() - 1)
    }
}

/// The guest's functions, by what two runs have in common.
#[derive(Clone, Debug)]
struct Functions {
    symbols: Arc<Symbols>,
    /// Hash of the name of each function that faulted.
    hashes: HashMap<u64, u64>,
    /// The names.
    names: BTreeMap<u64, String>,
}

impl Functions {
    fn new(symbols: Arc<Symbols>) -> Self {
        Self {
            symbols,
            hashes: HashMap::new(),
            names: BTreeMap::new(),
        }
    }

    /// The function of an instruction; absent without a symbol.
    fn of(&mut self, rip: Gva) -> Option<u64> {
        let function = self.symbols.find(rip)?;
        if let Some(hash) = self.hashes.get(&function) {
            return Some(*hash);
        }
        let (_, name) = self.symbols.name(function)?;
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let hash = hasher.finish();
        self.hashes.insert(function, hash);
        self.names.insert(hash, short(&name));
        Some(hash)
    }
}

/// The faults whose thread was switched out meanwhile, among all.
#[derive(Clone, Copy, Debug, Default)]
pub struct SwitchedOut {
    faults: u64,
    ns: u64,
    /// Time of all faults.
    all_ns: u64,
}

impl SwitchedOut {
    pub(super) fn fault(&mut self, row: &FaultRow) {
        let ns = switched_out_ns(row);
        self.faults += u64::from(ns > 0);
        self.ns = self.ns.saturating_add(ns);
        self.all_ns = self.all_ns.saturating_add(row.total_ns);
    }

    /// Adds those of others.
    pub fn add(&mut self, other: Self) {
        self.faults += other.faults;
        self.ns = self.ns.saturating_add(other.ns);
        self.all_ns = self.all_ns.saturating_add(other.all_ns);
    }

    /// That they have more than one percent of the time, if so.
    pub fn words(&self) -> Option<String> {
        let (faults, time) = (plural(self.faults, "fault"), ns(self.ns));
        let share = percent(self.ns, self.all_ns);
        (self.ns > self.all_ns / 100).then(|| {
            format!(
                "the threads of {faults} were switched out meanwhile: their {time} ({share} of \
                 all) hold other work, and are in no time below"
            )
        })
    }
}

/// Follows one VM of a run.
#[derive(Clone, Debug)]
pub struct VmFaults {
    functions: Functions,
    phases: Vec<String>,
    phase: usize,
    cells: Cells,
    steps: BTreeMap<(Class, FaultStep), Blocks>,
    culprits: [Culprits; By::ALL.len()],
    /// Faults without a readable RIP.
    without_rip: u64,
    switched_out: SwitchedOut,
    /// From the first mark of the phase `work` to the last of `done`.
    work: [Option<TimeNs>; 2],
}

impl VmFaults {
    fn new(symbols: Arc<Symbols>) -> Self {
        Self {
            functions: Functions::new(symbols),
            phases: vec![BEFORE.to_owned()],
            phase: 0,
            cells: Cells::new(),
            steps: BTreeMap::new(),
            culprits: Default::default(),
            without_rip: 0,
            switched_out: SwitchedOut::default(),
            work: [None; 2],
        }
    }

    fn begin(&mut self, name: &str) {
        let known = self.phases.iter().position(|phase| phase == name);
        self.phase = known.unwrap_or_else(|| {
            match self.phases.len() {
                ..PHASES => self.phases.push(name.to_owned()),
                PHASES => self.phases.push(OTHERS.to_owned()),
                _ => {}
            }
            self.phases.len() - 1
        });
    }

    fn fault(&mut self, row: &FaultRow) {
        self.switched_out.fault(row);
        let cell = self.cells.entry((self.phase, row.class));
        let cell = cell.or_insert_with(Blocks::with_times);
        cell.push(row.time_ns.0, own_time_ns(row));
        for step in FaultStep::ALL {
            if let Some(ns) = step.counted(row) {
                let blocks = self.steps.entry((row.class, step));
                let blocks = blocks.or_insert_with(Blocks::with_times);
                blocks.push(row.time_ns.0, own_time_ns(row).map(|_| ns));
            }
        }
        let [cr3, symbol, rip, range] = &mut self.culprits;
        cr3.push(table_of(row.cr3).0, row);
        range.push(row.gva.0 >> RANGE_BITS << RANGE_BITS, row);
        match row.rip {
            Some(address) => {
                rip.push(address.0, row);
                if let Some(function) = self.functions.of(address) {
                    symbol.push(function, row);
                }
            }
            None => self.without_rip += 1,
        }
    }
}

impl Follow for VmFaults {
    fn after(&mut self, record: &Record, _: Option<&VmReplay>) {
        match record {
            Record::Fault(row) => self.fault(row),
            Record::Mark(row) if row.ends_keyframe().is_none() => {
                let [from, to] = &mut self.work;
                match row.name.as_str() {
                    "work" => *from = from.or(Some(row.time_ns)),
                    "done" => *to = Some(row.time_ns),
                    _ => {}
                }
                self.begin(&row.name);
            }
            _ => {}
        }
    }
}

/// One run: what is kept of a trace.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Its faults by name of the phase and class, those of each VM apart.
    pub cells: BTreeMap<(String, Class), Vec<Blocks>>,
    /// The times of each step of its faults, those of each VM apart.
    pub steps: BTreeMap<(Class, FaultStep), Vec<Blocks>>,
    /// Names of the phases, in the order of their first marks.
    pub phases: Vec<String>,
    /// Its faults by culprit.
    pub culprits: BTreeMap<(By, Culprit), Blocks>,
    /// Names of the functions among them.
    pub names: BTreeMap<u64, String>,
    /// Faults of culprits for which there was no room.
    pub others: u64,
    /// Faults.
    pub faults: u64,
    /// Those whose thread was switched out meanwhile.
    pub switched_out: SwitchedOut,
    /// Length of the phase `work`, of all vCPUs together, ns; absent where a run has none.
    pub work_ns: Option<u64>,
    /// Records known to be lost.
    pub lost: u64,
    /// Why reading ended early, if it did.
    pub damage: Option<String>,
}

impl Run {
    /// What follows each VM of a run; `symbols` name its functions.
    pub fn follow(symbols: &Arc<Symbols>) -> VmFaults {
        VmFaults::new(Arc::clone(symbols))
    }

    /// What was read. The VMs are counted together; a phase is known by its name.
    pub fn of(study: Study<VmFaults>) -> Self {
        let mut run = Self {
            lost: study.lost_records(),
            damage: study.damage.as_ref().map(ToString::to_string).or_else(|| {
                let records = study.left_out.records;
                let text = format!("{} of too many VMs left out", plural(records, "record"));
                (records > 0).then_some(text)
            }),
            ..Self::default()
        };
        for (vm, of) in study.vms {
            run.add(vm.0, of);
        }
        run
    }

    fn add(&mut self, vm: u16, of: VmFaults) {
        if let [Some(from), Some(to)] = of.work {
            let work_ns = to.0.saturating_sub(from.0);
            self.work_ns = self.work_ns.max(Some(work_ns));
        }
        self.switched_out.add(of.switched_out);
        for phase in &of.phases {
            if !self.phases.contains(phase) {
                self.phases.push(phase.clone());
            }
        }
        for ((phase, class), blocks) in of.cells {
            self.faults += blocks.count();
            let name = of.phases.get(phase).cloned().unwrap_or_default();
            self.cells.entry((name, class)).or_default().push(blocks);
        }
        for (step, blocks) in of.steps {
            self.steps.entry(step).or_default().push(blocks);
        }
        self.names.extend(of.functions.names);
        for (by, culprits) in By::ALL.into_iter().zip(of.culprits) {
            self.others += culprits.others;
            for (number, (key, blocks)) in (0_u64..).zip(culprits.found) {
                let key = if by == By::Cr3 { number } else { key };
                self.culprits.insert((by, Culprit { vm, key }), blocks);
            }
        }
    }
}
