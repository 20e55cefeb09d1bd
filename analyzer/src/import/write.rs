//! Rows to a trace.

use std::{collections::BTreeMap, path::Path};

use events::{Seq, TimeNs, VmId};
use trace::{Batch, End, Imported, LossRow, Meta, SCHEMA_VERSION, Sees, Stores, Tool, TraceWriter};

use super::{
    ImportError,
    faults::{Done, Thread},
    line,
    threads::Threads,
};

/// Longest stretch of time, ns, and most rows in it.
const STRETCH: u64 = 1_000_000_000;
const ROWS: usize = 1 << 18;

/// Names of events kept apart; the kernel has about 150 of KVM.
const MAX_NAMES: usize = 1 << 10;

/// A trace that grows by lines.
pub struct Writer {
    trace: TraceWriter,
    meta: Meta,
    threads: Threads,
    following: BTreeMap<u32, Thread>,
    batch: Batch,
    done: Vec<Done>,
    next: u64,
    imported: Imported,
    /// First and last time.
    span: Option<[u64; 2]>,
    /// Time of the first line of the stretch.
    stretch: u64,
}

impl Writer {
    /// Nothing was read yet, but whose threads there are.
    pub fn new(
        output: &Path,
        command: Vec<String>,
        mut threads: Threads,
    ) -> Result<Self, ImportError> {
        let meta = Meta {
            schema: SCHEMA_VERSION,
            tool: Tool {
                name: env!("CARGO_PKG_NAME").to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            command,
            clock: "that of the text".to_owned(),
            sees: Some(Sees {
                every_change: false,
                stores: Stores::ToTables,
                from_birth: false,
                emulated: false,
                keyframe_roots: false,
                acts: false,
            }),
            vms: threads.vms(),
            imported: Some(Imported::default()),
            ..Meta::default()
        };
        Ok(Self {
            trace: TraceWriter::create(output, &meta)?,
            meta,
            threads,
            following: BTreeMap::new(),
            batch: Batch::default(),
            done: Vec::new(),
            next: 0,
            imported: Imported::default(),
            span: None,
            stretch: 0,
        })
    }

    /// Takes a line of the text.
    pub fn line(&mut self, text: &str) -> Result<(), ImportError> {
        let Some(line) = line::parse(text) else {
            self.lost(text);
            return Ok(());
        };
        if self.span.is_none() {
            // What is missing before the first event has no moment in the text.
            let first = TimeNs(line.time_ns);
            for loss in &mut self.batch.losses {
                (loss.from_ns, loss.time_ns) = (first, first);
            }
        }
        let [first, last] = self.span.unwrap_or([line.time_ns; 2]);
        self.span = Some([first.min(line.time_ns), last.max(line.time_ns)]);
        if line.time_ns.saturating_sub(self.stretch) >= STRETCH || self.batch.rows() >= ROWS {
            self.write()?;
            self.stretch = line.time_ns;
        }
        let Some((vm, vcpu)) = self.threads.of(line.thread) else {
            self.count(line.event);
            return Ok(());
        };
        let thread = self.following.entry(line.thread);
        let thread = thread.or_insert_with(|| Thread::new(vm, vcpu));
        let next = &mut self.next;
        let mut seq = || number(next);
        if thread.event(&line, &mut seq, &mut self.done) {
            self.count(line.event);
        }
        self.take();
        Ok(())
    }

    /// Only events that are understood are counted.
    fn count(&mut self, event: &str) {
        const OTHERS: [&str; 2] = ["kvm_mmu_prepare_zap_page", "kvm_mmu_zap_all_fast"];
        let own = event.starts_with("kvm_") || event.ends_with("page_fault");
        let known = own || event == "mark_mmio_spte" || OTHERS.contains(&event);
        if known
            && (self.imported.events.len() < MAX_NAMES || self.imported.events.contains_key(event))
        {
            *self.imported.events.entry(event.to_owned()).or_default() += 1;
        }
    }

    /// A line that says that events are missing.
    fn lost(&mut self, text: &str) {
        let Some(count) = line::lost(text) else {
            return;
        };
        let next = &mut self.next;
        for thread in self.following.values_mut() {
            thread.cut(&mut || number(next), &mut self.done);
        }
        self.take();
        let [first, last] = self.span.unwrap_or_default();
        let count = count.min(u64::MAX - self.next);
        self.next += count;
        self.batch.losses.push(LossRow {
            seq: Seq(self.next),
            time_ns: TimeNs(last),
            vm: VmId(0),
            vcpu: None,
            probe: "text".to_owned(),
            count,
            from_ns: TimeNs(first),
        });
    }

    fn take(&mut self) {
        for done in self.done.drain(..) {
            match done {
                Done::Fault(row) => self.batch.faults.push(*row),
                Done::Entry(row) => self.batch.entries.push(row),
                Done::Unclassified => self.imported.unclassified += 1,
            }
        }
    }

    fn write(&mut self) -> Result<(), ImportError> {
        self.trace.write(&std::mem::take(&mut self.batch))?;
        Ok(())
    }

    /// Ends the trace.
    pub fn finish(mut self, lines: u64) -> Result<Imported, ImportError> {
        let next = &mut self.next;
        for thread in self.following.values_mut() {
            thread.close(None, &mut || number(next), &mut self.done);
        }
        self.take();
        self.write()?;
        self.imported.lines = lines;
        let [first, last] = self.span.unwrap_or_default();
        self.meta.started_ns = first;
        for vm in &mut self.meta.vms {
            vm.from_ns = first;
        }
        self.meta.complete = true;
        self.meta.imported = Some(self.imported.clone());
        self.meta.end = Some(End {
            time_ns: last,
            reason: "done".to_owned(),
            records: self.next,
            segments: self.trace.segments(),
            rows: self.trace.rows(),
            programs: Vec::new(),
        });
        self.trace.meta_file().write(&self.meta)?;
        Ok(self.imported)
    }
}

fn number(next: &mut u64) -> Seq {
    let seq = Seq(*next);
    *next = next.saturating_add(1);
    seq
}
