//! The VMs that are traced now: added as they appear, removed when they end.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    os::fd::AsFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use events::VmId;
use trace::{Meta, Mode, VmMeta};

use super::{
    Target,
    blind::{Taken, Watch},
    traced::{Starts, TracedVm, vcpu_counters},
};
use crate::{
    failure::chain,
    host,
    probes::{CounterNames, Probes, RequestError},
    record::Section,
    recording::{self, Recording},
    terminal,
    vms::{self, End, Found, FoundVm, FreezeError, Holder},
};

/// VMs of the target.
pub struct TracedVms<'a> {
    recording: &'a Recording,
    names: CounterNames,
    target: Target,
    /// What the probes were loaded for.
    mode: Mode,
    running: Vec<TracedVm>,
    meta: Meta,
    next: u16,
    /// Processes that were reported as skipped.
    skipped: BTreeSet<u32>,
    watch: Watch,
    /// Where the traces of VMs that have ended may begin.
    ended: BTreeMap<u16, Starts>,
}

impl<'a> TracedVms<'a> {
    /// None yet.
    pub fn new(recording: &'a Recording, names: CounterNames, target: Target, meta: Meta) -> Self {
        Self {
            recording,
            names,
            target,
            mode: host::mode(),
            running: Vec::new(),
            meta,
            next: 0,
            skipped: BTreeSet::new(),
            watch: Watch::default(),
            ended: BTreeMap::new(),
        }
    }

    /// VMs that are traced now.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether the trace has its largest size.
    pub fn is_full(&self) -> bool {
        self.recording.is_full()
    }

    /// Removes VMs that have ended, and adds new ones.
    pub fn look(&mut self) -> anyhow::Result<()> {
        let time_ns = recording::now_ns();
        let holders = self.target.holders()?;
        let found = vms::among(&holders, &self.recording.probes);
        let changed = self.remove_ended(&holders, &found)? | self.add_new(&holders, found)?;
        if changed {
            self.write_meta()?;
        }
        self.say_who_runs(time_ns);
        Ok(())
    }

    /// Whoever waits for a storm must know whether its VM has ended. That of a process which is
    /// ending stays unknown until the next look.
    fn say_who_runs(&self, time_ns: u64) {
        let keeper = self.recording.keeper.as_ref();
        let Some(keeper) = keeper.filter(|keeper| keeper.waits()) else {
            return;
        };
        let ends = |vm: &TracedVm| vm.process.end() != End::NotYet;
        if !self.running.iter().any(ends) {
            let run = self.running.iter().map(TracedVm::vm).collect();
            keeper.looked(time_ns, &run);
        }
    }

    /// Says, once for each VM, that KVM takes faults that no probe sees.
    pub fn watch(&mut self) -> anyhow::Result<()> {
        // KVM counts the guest hypervisor's own faults too, which are not recorded.
        if self.mode.is_nested() || !self.watch.is_due() {
            return Ok(());
        }
        let probes = &self.recording.probes;
        let mut counted = Taken::new();
        for vm in &self.running {
            // One that ends is found by the next look.
            let Ok(vcpus) = vcpu_counters(probes, &self.names, vm.vm()) else {
                continue;
            };
            let taken = vcpus.into_iter().filter_map(|(vcpu, counters)| {
                let taken = counters.get("pf_taken")?;
                Some(((vm.vm(), vcpu), *taken))
            });
            counted.extend(taken);
        }
        for (vm, missing) in self.watch.look(counted, &probes.faults_taken()?) {
            let process = self.running.iter().find(|of| of.vm() == vm);
            let process = process.map_or(0, |of| of.process.number());
            terminal::say(format_args!(
                "VM {} (process {process}): KVM took {missing} page faults that no probe saw, and \
                 goes on: the recording does not have them. The thread that runs the vCPU enters \
                 KVM in a way that is not followed.",
                vm.0
            ));
        }
        Ok(())
    }

    /// Copies the tables of every VM, process by process. Where only the last part is kept, a
    /// section of the ring begins.
    pub fn keyframes(&mut self) -> anyhow::Result<()> {
        let mut section: Option<Section> = None;
        for process in self.processes() {
            let (vms, names) = (&mut self.running, &self.names);
            let (probes, keeper) = (&self.recording.probes, &self.recording.keeper);
            let stopped = Some(Instant::now());
            let taken = vms::while_stopped(process.pid, || -> Result<(), RequestError> {
                let mut vms = vms.iter_mut().filter(|vm| vm.process.pid == process.pid);
                if keeper.is_none() {
                    return vms.try_for_each(|vm| vm.keyframe(stopped));
                }
                let now = probes.next_seq()?;
                section.get_or_insert(Section {
                    first: now,
                    time_ns: recording::now_ns(),
                    until: now,
                });
                vms.try_for_each(|vm| vm.section(names, stopped))
            });
            match taken {
                Ok(Ok(())) => {}
                Ok(Err(error)) if process.end() == End::NotYet => {
                    self.contain(&process, Err(error.into()))?;
                }
                // The next look finds out.
                Ok(Err(_)) | Err(FreezeError::Ended) => {}
                Err(error) => self.refuse(process.number(), &process.name, error.into())?,
            }
        }
        if let (Some(keeper), Some(section)) = (&self.recording.keeper, section) {
            let until = self.recording.probes.next_seq()?;
            keeper.begin(Section { until, ..section });
            self.forget();
        }
        Ok(())
    }

    /// Forgets what was dropped from the trace.
    fn forget(&mut self) {
        let Some(begin) = self.recording.begin() else {
            return;
        };
        for vm in &mut self.running {
            vm.starts.forget_before(begin);
        }
        let gone = |vm: &VmMeta| vm.until_ns.is_some_and(|until| until < begin.time_ns);
        for vm in self.meta.vms.extract_if(.., |vm| gone(vm)) {
            self.ended.remove(&vm.vm);
        }
        self.ended
            .values_mut()
            .for_each(|starts| starts.forget_before(begin));
    }

    /// Takes the last keyframe and counters of every VM; the VMs keep running.
    pub fn finish(mut self) -> (Meta, anyhow::Result<()>) {
        let mut result = Ok(());
        for process in self.processes() {
            let (vms, others) = std::mem::take(&mut self.running)
                .into_iter()
                .partition::<Vec<_>, _>(|vm| vm.process.pid == process.pid);
            self.running = others;
            result = result.and(self.end_process(&process, vms));
        }
        self.forget();
        if let Some(begin) = self.recording.begin() {
            for vm in &mut self.meta.vms {
                if let Some(starts) = self.ended.get(&vm.vm) {
                    starts.settle(vm, begin);
                }
            }
        }
        (self.meta, result)
    }

    /// Ends the VMs of one process, stopped if it still runs.
    fn end_process(&mut self, process: &Holder, mut vms: Vec<TracedVm>) -> anyhow::Result<()> {
        let (probes, names) = (&self.recording.probes, &self.names);
        let since = Instant::now();
        let mut end = |ended: Option<&str>, stopped: Option<Instant>| {
            vms.iter_mut()
                .map(|vm| vm.end(ended, stopped, probes, names))
                .fold(Ok(()), anyhow::Result::and)
        };
        let stopped = match process.end() {
            End::NotYet => vms::while_stopped(process.pid, || end(None, Some(since))),
            End::UnderWay | End::Over => Err(FreezeError::Ended),
        };
        let result = match stopped {
            Ok(ended) => ended,
            Err(FreezeError::Ended) => {
                // Its tables go with its memory.
                process.wait(PATIENCE);
                end(Some(ENDED), None)
            }
            Err(error) => {
                let stopped: anyhow::Result<()> = Err(error.into());
                stopped
                    .context("while stopping the VM for the last keyframe")
                    .and(end(None, None))
            }
        };
        vms.into_iter().for_each(|vm| self.note(vm));
        result
    }

    fn processes(&self) -> Vec<Arc<Holder>> {
        let mut processes: Vec<_> = self
            .running
            .iter()
            .map(|vm| Arc::clone(&vm.process))
            .collect();
        processes.sort_by_key(|process| process.number());
        processes.dedup_by_key(|process| process.number());
        processes
    }

    fn remove_ended(&mut self, holders: &[Holder], found: &Found) -> anyhow::Result<bool> {
        let denied = |vm: &TracedVm| {
            let mut denied = found.denied.iter();
            denied.any(|(index, _)| {
                let holder = holders.get(*index);
                holder.is_some_and(|holder| holder.pid == vm.process.pid)
            })
        };
        let lives = |vm: &TracedVm| {
            found.vms.iter().any(|found| found.vm == Some(vm.vm()))
                || denied(vm)
                || vm.process.end() == End::UnderWay
        };
        let (running, ended) = std::mem::take(&mut self.running)
            .into_iter()
            .partition::<Vec<_>, _>(lives);
        self.running = running;
        let changed = !ended.is_empty();
        let mut result = Ok(());
        for mut vm in ended {
            let why = match vm.process.end() {
                End::NotYet => "closed by its process",
                End::UnderWay | End::Over => ENDED,
            };
            let ended = vm.end(Some(why), None, &self.recording.probes, &self.names);
            result = result.and(self.contain(&vm.process, ended));
            self.note(vm);
        }
        result.map(|()| changed)
    }

    fn add_new(&mut self, holders: &[Holder], found: Found) -> anyhow::Result<bool> {
        for (index, error) in found.denied {
            let Some(holder) = holders.get(index) else {
                continue;
            };
            if !found.vms.iter().any(|found| found.holder == index) {
                self.refuse(holder.number(), &holder.name, error.into())?;
            } else if self.skipped.insert(holder.number()) {
                let why = chain(&error);
                terminal::say(format_args!("not every VM is recorded: {why}"));
            }
        }
        let new: BTreeSet<usize> = found
            .vms
            .iter()
            .filter(|found| found.vm.is_none() && self.wants(found))
            .map(|found| found.holder)
            .collect();
        let mut changed = false;
        for (index, holder) in holders.iter().enumerate() {
            if !new.contains(&index) {
                continue;
            }
            // The module may have been loaded again with other parameters.
            if host::mode() != self.mode {
                let error = match self.mode {
                    Mode::Shadow => RequestError::TwoDimensional,
                    Mode::NestedNpt | Mode::NestedEpt => RequestError::Reloaded,
                };
                self.refuse(holder.number(), &holder.name, error.into())?;
                continue;
            }
            let (probes, names, next) = (&self.recording.probes, &self.names, self.next);
            let stopped = Instant::now();
            let begun = vms::while_stopped(holder.pid, || {
                begin(holder.number(), next, stopped, probes, names)
            });
            match begun {
                Ok(Err(error)) => {
                    // None of the numbers is used again.
                    self.next = after(self.next, holder.descriptors.len());
                    if holder.end() == End::NotYet {
                        self.refuse(holder.number(), &holder.name, error)?;
                    }
                }
                Ok(Ok(begun)) => {
                    self.next = after(self.next, begun.len());
                    self.meta.vms.extend(begun.iter().map(|vm| vm.meta.clone()));
                    changed |= !begun.is_empty();
                    self.running.extend(begun);
                }
                Err(FreezeError::Ended) => {}
                Err(error) => self.refuse(holder.number(), &holder.name, error.into())?,
            }
        }
        Ok(changed)
    }

    /// Where only nested guests have shadow tables, other VMs than those of the process that was
    /// named are left out until they run one.
    fn wants(&self, found: &FoundVm) -> bool {
        self.target != Target::All || !self.mode.is_nested() || found.nested
    }

    /// What went wrong with one process's VMs: an error with `--pid`; with `--all` it is printed,
    /// and the other VMs are still traced.
    fn contain(&self, process: &Holder, result: anyhow::Result<()>) -> anyhow::Result<()> {
        match result {
            Err(error) if self.target == Target::All => {
                terminal::say(format_args!(
                    "process {} ({}): {error:#}",
                    process.number(),
                    process.name
                ));
                Ok(())
            }
            result => result,
        }
    }

    /// A process that cannot be stopped or read: an error with `--pid`; with `--all` it is printed
    /// once, and tried again.
    fn refuse(&mut self, pid: u32, name: &str, error: anyhow::Error) -> anyhow::Result<()> {
        if self.target != Target::All {
            return Err(error);
        }
        if self.skipped.insert(pid) {
            terminal::say(format_args!("skipped: process {pid} ({name}): {error:#}"));
        }
        Ok(())
    }

    fn note(&mut self, vm: TracedVm) {
        if self.recording.keeper.is_some() {
            self.ended.insert(vm.meta.vm, vm.starts);
        }
        let mut vms = self.meta.vms.iter_mut();
        if let Some(noted) = vms.find(|noted| noted.vm == vm.meta.vm) {
            *noted = vm.meta;
        }
    }

    fn write_meta(&self) -> anyhow::Result<()> {
        Ok(self.recording.meta_file.write(&self.meta)?)
    }
}

/// The VM number after `count` VMs. The last number is the most there can be.
fn after(next: u16, count: usize) -> u16 {
    next.saturating_add(u16::try_from(count).unwrap_or(u16::MAX))
}

/// Why a VM ended, when its process did.
const ENDED: &str = "its process ended";
/// How long the end of a process may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows every VM of a stopped process, numbered from `next`. The process is read again, since
/// it may have changed before it stopped.
fn begin(
    pid: u32,
    next: u16,
    stopped: Instant,
    probes: &Arc<Probes>,
    names: &CounterNames,
) -> anyhow::Result<Vec<TracedVm>> {
    let holders = [vms::of(pid)?];
    let found = vms::among(&holders, probes);
    let mut denied = found.denied.into_iter();
    if let (true, Some((_, error))) = (found.vms.is_empty(), denied.next()) {
        return Err(error.into());
    }
    let new: Vec<_> = found
        .vms
        .into_iter()
        .filter(|found| found.vm.is_none())
        .collect();
    let numbers = next..after(next, new.len());
    let begun = follow(holders, numbers.clone(), new, stopped, probes, names);
    if begun.is_err() {
        // The first error is reported; a VM that the probes do not know is forgotten already.
        numbers.for_each(|number| drop(probes.forget(VmId(number))));
    }
    begun
}

fn follow(
    holders: [Holder; 1],
    numbers: Range<u16>,
    new: Vec<FoundVm>,
    stopped: Instant,
    probes: &Arc<Probes>,
    names: &CounterNames,
) -> anyhow::Result<Vec<TracedVm>> {
    for (number, found) in numbers.clone().zip(&new) {
        probes.follow(found.kept.as_fd(), found.object, VmId(number))?;
    }
    // Now the probes know whose vCPUs these are, and remember them.
    vms::among(&holders, probes);
    let [process] = holders.map(Arc::new);
    numbers
        .zip(new)
        .map(|(number, found)| {
            let process = Arc::clone(&process);
            Ok(TracedVm::begin(
                VmId(number),
                process,
                found.kept,
                stopped,
                probes,
                names,
            )?)
        })
        .collect()
}
