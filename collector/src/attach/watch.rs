//! The VMs that are traced: taken in as they appear, let go when they end.

use std::{
    collections::BTreeSet,
    os::fd::AsFd as _,
    sync::Arc,
};

use anyhow::{Context as _, anyhow};
use events::VmId;
use rustix::process::Pid;
use trace::{Meta, VmMeta};

use super::{Target, traced::TracedVm};
use crate::{
    probes::{CounterNames, Probes, RequestError},
    recording::Recording,
    vms::{self, Found, FreezeError, Holder, HolderError},
};

/// VMs of the target.
pub struct Watch<'a> {
    recording: &'a Recording,
    names: CounterNames,
    target: Target,
    running: Vec<TracedVm>,
    meta: Meta,
    next: u16,
    /// Processes of which was said that they cannot be traced.
    skipped: BTreeSet<u32>,
}

impl<'a> Watch<'a> {
    /// Nothing is taken in yet.
    pub fn new(
        recording: &'a Recording,
        names: CounterNames,
        target: Target,
        meta: Meta,
    ) -> Self {
        Self {
            recording,
            names,
            target,
            running: Vec::new(),
            meta,
            next: 0,
            skipped: BTreeSet::new(),
        }
    }

    /// VMs that are traced now.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Lets go of VMs that have ended, and takes in those that are new.
    pub fn look(&mut self) -> anyhow::Result<()> {
        let holders = match self.target {
            Target::All => vms::all().context("while looking for VMs in /proc")?,
            Target::Process(pid) => match vms::of(pid) {
                Ok(holder) => vec![holder],
                Err(HolderError::None(_)) => Vec::new(),
                Err(error) => return Err(error.into()),
            },
        };
        let found = vms::among(&holders, &self.recording.probes)?;
        let changed = self.let_go(&holders, &found)? | self.take_in(&holders, found)?;
        if changed {
            self.write_meta()?;
        }
        Ok(())
    }

    /// Copies the tables of every VM, process by process.
    pub fn keyframes(&mut self) -> anyhow::Result<()> {
        for pid in self.processes() {
            let vms = &mut self.running;
            let taken = vms::while_stopped(pid, || -> Result<(), RequestError> {
                vms.iter_mut()
                    .filter(|vm| vm.pid == pid)
                    .try_for_each(TracedVm::keyframe)
            });
            match taken {
                Ok(taken) => taken?,
                // The next look finds out.
                Err(FreezeError::Ended(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Last words of every VM; they run on.
    pub fn finish(mut self) -> (Meta, anyhow::Result<()>) {
        let mut result = Ok(());
        for pid in self.processes() {
            let of_process = |vm: &TracedVm| vm.pid == pid;
            let (vms, others) = std::mem::take(&mut self.running)
                .into_iter()
                .partition::<Vec<_>, _>(of_process);
            self.running = others;
            let (probes, names) = (&self.recording.probes, &self.names);
            let vms = std::sync::Mutex::new(vms);
            let end = |ended: Option<&str>| {
                let vms = std::mem::take(&mut *vms.lock().unwrap_or_else(|bad| bad.into_inner()));
                vms.into_iter()
                    .map(|vm| vm.end(ended, probes, names))
                    .collect::<Vec<_>>()
            };
            let (ended, stopped) = match vms::while_stopped(pid, || end(None)) {
                Ok(ended) => (ended, Ok(())),
                Err(FreezeError::Ended(_)) => (end(Some(ENDED)), Ok(())),
                Err(error) => (end(None), Err(error)),
            };
            result = result.and(stopped.context("while stopping the VM for the last keyframe"));
            for (meta, ended) in ended {
                result = result.and(ended);
                self.note(meta);
            }
        }
        (self.meta, result)
    }

    fn processes(&self) -> Vec<Pid> {
        let mut processes: Vec<Pid> = self.running.iter().map(|vm| vm.pid).collect();
        processes.sort_by_key(|pid| pid.as_raw_nonzero());
        processes.dedup();
        processes
    }

    fn let_go(&mut self, holders: &[Holder], found: &Found) -> anyhow::Result<bool> {
        let denied = |pid: Pid| {
            let mut denied = found.denied.iter();
            denied.any(|(index, _)| holders.get(*index).is_some_and(|holder| holder.pid == pid))
        };
        let lives = |vm: &TracedVm| {
            denied(vm.pid) || found.vms.iter().any(|found| found.vm == Some(vm.vm()))
        };
        let (running, ended) = std::mem::take(&mut self.running)
            .into_iter()
            .partition::<Vec<_>, _>(lives);
        self.running = running;
        let changed = !ended.is_empty();
        let mut result = Ok(());
        for vm in ended {
            let why = match vms::of(vm.meta.pid) {
                Ok(_) => "closed by its process",
                Err(_) => ENDED,
            };
            let (meta, ended) = vm.end(Some(why), &self.recording.probes, &self.names);
            self.note(meta);
            result = result.and(ended);
        }
        result.map(|()| changed)
    }

    fn take_in(&mut self, holders: &[Holder], found: Found) -> anyhow::Result<bool> {
        let denied: Vec<_> = found
            .denied
            .into_iter()
            .filter_map(|(index, error)| Some((holders.get(index)?, anyhow!(error))))
            .collect();
        for (holder, error) in denied {
            self.refuse(holder, error)?;
        }
        let new: BTreeSet<usize> = found
            .vms
            .iter()
            .filter(|found| found.vm.is_none())
            .map(|found| found.holder)
            .collect();
        let mut changed = false;
        for holder in new.into_iter().filter_map(|index| holders.get(index)) {
            let (probes, names, next) = (&self.recording.probes, &self.names, self.next);
            let begun = vms::while_stopped(holder.pid, || begin(holder, next, probes, names));
            match begun {
                Ok(Ok(begun)) => {
                    self.next = self.next.saturating_add(begun.len() as u16);
                    self.meta.vms.extend(begun.iter().map(|vm| vm.meta.clone()));
                    changed |= !begun.is_empty();
                    self.running.extend(begun);
                }
                Ok(Err(error)) => return Err(error),
                Err(FreezeError::Ended(_)) => {}
                Err(error) => self.refuse(holder, error.into())?,
            }
        }
        Ok(changed)
    }

    /// With `--pid` that is the end; with `--all` it is said, once.
    fn refuse(&mut self, holder: &Holder, error: anyhow::Error) -> anyhow::Result<()> {
        if self.target != Target::All {
            return Err(error);
        }
        if self.skipped.insert(holder.number()) {
            eprintln!(
                "skipped: process {} ({}): {error:#}",
                holder.number(),
                holder.name
            );
        }
        Ok(())
    }

    fn note(&mut self, meta: VmMeta) {
        if let Some(noted) = self.meta.vms.iter_mut().find(|vm| vm.vm == meta.vm) {
            *noted = meta;
        }
    }

    fn write_meta(&self) -> anyhow::Result<()> {
        Ok(self.recording.meta_file.write(&self.meta)?)
    }
}

/// Why a VM ended, when its process did.
const ENDED: &str = "its process ended";

/// Follows every VM of a process that stands still, from `next` on. It is looked through again: it may
/// have changed until it stood still.
fn begin(
    holder: &Holder,
    next: u16,
    probes: &Arc<Probes>,
    names: &CounterNames,
) -> anyhow::Result<Vec<TracedVm>> {
    let holders = [vms::of(holder.number())?];
    let new: Vec<_> = vms::among(&holders, probes)?
        .vms
        .into_iter()
        .filter(|found| found.vm.is_none())
        .collect();
    for (number, found) in (next..).zip(&new) {
        probes.follow(found.kept.as_fd(), found.object, VmId(number))?;
    }
    // Now the probes know whose vCPUs these are, and remember them.
    vms::among(&holders, probes)?;
    (next..)
        .zip(new)
        .map(|(number, found)| {
            let (pid, name) = (holder.pid, &holder.name);
            let vm = VmId(number);
            let traced = TracedVm::begin(vm, pid, name, found.kept, probes, names);
            Ok(traced?)
        })
        .collect()
}
