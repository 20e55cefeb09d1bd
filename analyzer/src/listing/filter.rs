//! Which faults are meant.

use events::{Class, Gpa, Gva, VcpuId};
use trace::{FaultRow, Record};

use super::Window;

/// Which faults. What is absent leaves nothing out.
#[derive(Clone, Debug, Default)]
pub struct FaultFilter {
    /// Of one of these classes; empty for all.
    pub classes: Vec<Class>,
    /// On this range of addresses, the last one included.
    pub gva: Option<[Gva; 2]>,
    /// With this CR3.
    pub cr3: Option<Gpa>,
    /// On this vCPU.
    pub vcpu: Option<VcpuId>,
    /// In this stretch.
    pub window: Window,
}

impl FaultFilter {
    /// Takes the next record of the VM; a fault that is meant.
    pub fn fault<'a>(&mut self, record: &'a Record) -> Option<&'a FaultRow> {
        let inside = self.window.admits(record);
        match record {
            Record::Fault(row) if inside && self.matches(row) => Some(row),
            _ => None,
        }
    }

    /// Whether it is meant, wherever it is.
    pub fn matches(&self, row: &FaultRow) -> bool {
        (self.classes.is_empty() || self.classes.contains(&row.class))
            && self
                .gva
                .is_none_or(|[from, to]| (from..=to).contains(&row.gva))
            && self
                .cr3
                .is_none_or(|cr3| table_of(cr3) == table_of(row.cr3))
            && self.vcpu.is_none_or(|vcpu| vcpu == row.vcpu)
    }

    /// Whether it asks for some faults by more than their time.
    pub fn is_about_faults(&self) -> bool {
        !self.classes.is_empty() || self.gva.is_some() || self.cr3.is_some() || self.vcpu.is_some()
    }

    /// What it leaves in, in words; empty for everything.
    pub fn words(&self) -> String {
        let classes: Vec<_> = self.classes.iter().map(|class| class.name()).collect();
        let classes = (!classes.is_empty()).then(|| format!("class {}", classes.join(", ")));
        let gva = self.gva.map(|[from, to]| match from == to {
            true => format!("gva {from}"),
            false => format!("gva {from} to {to}"),
        });
        let cr3 = self.cr3.map(|cr3| format!("cr3 {cr3}"));
        let vcpu = self.vcpu.map(|vcpu| format!("vCPU {}", vcpu.0));
        let window = (!self.window.is_whole()).then(|| "the stretch asked for".to_owned());
        let words = [classes, gva, cr3, vcpu, window];
        words.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// The guest's root table: CR3 without its low 12 bits (PCID, PWT, PCD) and bit 63.
pub fn table_of(cr3: Gpa) -> Gpa {
    Gpa(cr3.0 & !0xfff & !(1 << 63))
}
