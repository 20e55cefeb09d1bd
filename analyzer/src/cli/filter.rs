//! Which faults a command is about.

use clap::Args;
use events::{Class, Gpa, Gva, VcpuId};
use trace::Trace;

use super::{Failure, names, number};
use crate::{
    listing::{FaultFilter, Window},
    table::Moment,
};

/// Which faults, in a stretch of the trace.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    #[command(flatten)]
    faults: FaultArgs,
    #[command(flatten)]
    window: WindowArgs,
}

/// Which faults. What is not given leaves nothing out.
#[derive(Debug, Args)]
pub(super) struct FaultArgs {
    /// Only faults of this class; several with commas
    #[arg(long, value_name = "CLASS", value_parser = names::class(), value_delimiter = ',')]
    class: Vec<Class>,
    /// Only faults on the page of this address, or on a range: 0x1000..0x9000
    #[arg(long, value_name = "ADDR", value_parser = number::gvas)]
    gva: Option<[Gva; 2]>,
    /// Only faults of the guest's process with this root table
    #[arg(long, value_name = "CR3", value_parser = number::gpa)]
    cr3: Option<Gpa>,
    /// Only this vCPU
    #[arg(long, value_name = "N")]
    vcpu: Option<u16>,
}

/// A stretch of the trace.
#[derive(Debug, Args)]
pub(super) struct WindowArgs {
    /// From this moment on: seconds from the start (1.25s, 30ms), ns on the trace's clock,
    /// `phase:NAME`, `fault:N` or `seq:N`
    #[arg(long, value_name = "T")]
    pub(super) from: Option<Moment>,
    /// Up to this moment
    #[arg(long, value_name = "T")]
    pub(super) to: Option<Moment>,
}

impl WindowArgs {
    pub(super) fn of(&self, trace: &Trace) -> Result<Window, Failure> {
        Ok(Window::new(self.from.as_ref(), self.to.as_ref(), trace)?)
    }
}

impl FilterArgs {
    /// Of these faults.
    pub(super) fn of(&self, trace: &Trace) -> Result<FaultFilter, Failure> {
        Ok(self.faults.within(self.window.of(trace)?))
    }
}

impl FaultArgs {
    /// Those in a stretch.
    pub(super) fn within(&self, window: Window) -> FaultFilter {
        FaultFilter {
            classes: self.class.clone(),
            gva: self.gva,
            cr3: self.cr3,
            vcpu: self.vcpu.map(VcpuId),
            window,
        }
    }
}
