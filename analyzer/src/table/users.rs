//! Which root each vCPU was last seen on, before the stretch that replay begins with.

use std::collections::BTreeMap;

use events::{Hpa, Seq, VcpuId, VmId};
use polars::prelude::{DataFrame, PolarsResult};
use trace::{FaultRow, RootRow, Segment, Trace, TraceError};

use super::begin::{in_order, strange};
use crate::replay::CurrentRoot;

/// Segments of faults that are looked through at least: a stretch may hold what belongs before the
/// end of the one before.
const LEAST: usize = 2;

/// Place of a row in the order in which [`trace::Records`] gives it.
type Place = (usize, Seq);

/// The latest that was told of each vCPU.
#[derive(Default)]
struct Latest(BTreeMap<VcpuId, (Place, CurrentRoot)>);

impl Latest {
    fn add(&mut self, vcpu: VcpuId, place: Place, root: CurrentRoot) {
        let entry = self.0.entry(vcpu).or_insert((place, root));
        if entry.0 <= place {
            *entry = (place, root);
        }
    }
}

/// By `roots`, the rows of the kind with their stretches, and by the latest faults.
pub(super) fn users(
    trace: &Trace,
    vm: VmId,
    roots: &[(u32, RootRow)],
    from: u32,
) -> Result<BTreeMap<VcpuId, CurrentRoot>, TraceError> {
    let turns = Turns::of(trace);
    let mut latest = Latest::default();
    for (stretch, row) in roots.iter().filter(|(stretch, _)| *stretch < from) {
        let root = CurrentRoot {
            cr3: row.cr3,
            root: row.root,
            level: Some(row.level),
        };
        latest.add(row.vcpu, turns.place(*stretch, row.seq), root);
    }
    let switches = latest.0.clone();
    let mut older: BTreeMap<VcpuId, u32> = roots
        .iter()
        .filter(|(stretch, _)| *stretch < from)
        .map(|(stretch, row)| (row.vcpu, *stretch))
        .collect();
    let before = in_order::<FaultRow>(trace).into_iter().rev();
    let before = before.filter(|segment| segment.segment < from);
    for (number, segment) in before.enumerate() {
        // A root that was told later than the faults that are left stands.
        older.retain(|_, told| *told <= segment.segment);
        if number >= LEAST && older.is_empty() {
            break;
        }
        for (vcpu, seq, root) in faults(trace, vm, segment)? {
            latest.add(vcpu, turns.place(segment.segment, seq), root);
            if number + 1 >= LEAST {
                older.remove(&vcpu);
            }
        }
    }
    let latest = latest.0.into_iter().map(|(vcpu, (_, mut root))| {
        // A fault does not tell the level of the root it was on, its switch did.
        let switch = switches
            .get(&vcpu)
            .filter(|(_, told)| told.root == root.root);
        root.level = root.level.or(switch.and_then(|(_, told)| told.level));
        (vcpu, root)
    });
    Ok(latest.collect())
}

/// When the rows of each stretch are let go: with its own if they are numbered below the end of the
/// one before, else with the next.
struct Turns(BTreeMap<u32, (usize, Option<u64>)>);

impl Turns {
    fn of(trace: &Trace) -> Self {
        let mut lasts = BTreeMap::<u32, u64>::new();
        for segment in trace.segments() {
            let last = lasts.entry(segment.segment).or_default();
            *last = segment.seq[1].max(*last);
        }
        let mut before = None;
        let turns = lasts
            .into_iter()
            .enumerate()
            .map(|(turn, (stretch, last))| {
                let turn = (turn, before.replace(last));
                (stretch, turn)
            });
        Self(turns.collect())
    }

    fn place(&self, stretch: u32, seq: Seq) -> Place {
        let (turn, before) = self.0.get(&stretch).copied().unwrap_or_default();
        let late = before.is_some_and(|before| seq.0 <= before);
        (turn + usize::from(!late), seq)
    }
}

type Fault = (VcpuId, Seq, CurrentRoot);

fn faults(trace: &Trace, vm: VmId, segment: &Segment) -> Result<Vec<Fault>, TraceError> {
    let columns = ["seq", "vm", "vcpu", "cr3", "root"];
    let frame = trace.segment::<FaultRow>(segment, Some(&columns))?;
    let faults = |frame: &DataFrame| -> PolarsResult<Vec<Fault>> {
        let vms = frame.column("vm")?.u16()?.iter();
        let vcpus = frame.column("vcpu")?.u16()?.iter();
        let numbers = frame.column("seq")?.u64()?.iter();
        let cr3s = frame.column("cr3")?.u64()?.iter();
        let roots = frame.column("root")?.u64()?.iter();
        let rows = vms.zip(vcpus).zip(numbers).zip(cr3s.zip(roots));
        let own = rows.filter_map(|(((of, vcpu), seq), (cr3, root))| {
            let root = CurrentRoot {
                cr3: events::Gpa(cr3?),
                root: Hpa(root?),
                level: None,
            };
            (of? == vm.0).then_some((VcpuId(vcpu?), Seq(seq?), root))
        });
        Ok(own.collect())
    };
    faults(&frame).map_err(strange(trace, segment))
}
