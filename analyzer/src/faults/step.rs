//! The steps of a fault.

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

    /// What happens in it.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Exit => "from the exit of the guest to the start of the walk",
            Self::Walk => "KVM walks the guest's own tables, from GVA to GPA",
            Self::Pfn => "the lookup from GPA to frame: memslot, HVA, the host's tables",
            Self::Hva => "the host's part of that lookup, from HVA to frame",
            Self::Tables => "the upper levels of the shadow table: found, or made and linked",
            Self::PfnTables => "lookup and upper levels together: this host does not part them",
            Self::Write => "the leaf entry of the shadow table is stored",
            Self::Inject => "the guest gets its own #PF",
            Self::Emulate => "KVM emulates the instruction",
            Self::Entry => "from the last step to the guest's re-entry",
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

    /// Its time in an account. Without a walk (the guest does not page) the lookup of the frame is
    /// seen from the HVA on: that part is all that is known of it.
    pub const fn counted(self, row: &FaultRow) -> Option<u64> {
        match (self, row.pfn_ns) {
            (Self::Pfn, None) => row.hva_ns,
            _ => self.of(row),
        }
    }
}
