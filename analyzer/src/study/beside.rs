//! A thread for what needs the records alone, beside replay.

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{Builder, Scope, ScopedJoinHandle},
};

use events::VmId;
use trace::Record;

use super::RecordStudy;

/// Chunks that may wait: bounds what replay has used and is not read yet.
const WAITING: usize = 8;

type Of = BTreeMap<VmId, RecordStudy>;

/// Records that replay has used, and the VMs that came with them.
struct Work {
    records: Vec<Record>,
    new: Of,
}

/// What reads the records of all VMs. The thread begins with the first VM that has something for it.
pub(super) struct Beside<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    new: Of,
    place: Place<'scope>,
}

enum Place<'scope> {
    /// Nothing reads them.
    Nowhere,
    Thread(SyncSender<Work>, ScopedJoinHandle<'scope, Of>),
    /// There is no room for a thread.
    Here(Of),
}

impl<'scope, 'env> Beside<'scope, 'env> {
    pub(super) fn new(scope: &'scope Scope<'scope, 'env>) -> Self {
        Self {
            scope,
            new: Of::new(),
            place: Place::Nowhere,
        }
    }

    /// A VM, before its first record is passed on.
    pub(super) fn add(&mut self, vm: VmId, of: RecordStudy) {
        self.new.insert(vm, of);
    }

    /// Records in order, of all VMs.
    pub(super) fn pass(&mut self, records: Vec<Record>) {
        let new = std::mem::take(&mut self.new);
        if matches!(self.place, Place::Nowhere) {
            if new.is_empty() {
                return;
            }
            self.place = self.begin();
        }
        let work = Work { records, new };
        match &mut self.place {
            // It ends before the sender does only if it panics, which `end` passes on.
            Place::Thread(sender, _) => drop(sender.send(work)),
            Place::Here(of) => read(of, work),
            Place::Nowhere => {}
        }
    }

    fn begin(&self) -> Place<'scope> {
        let (sender, receiver) = sync_channel(WAITING);
        let builder = Builder::new().name("records".to_owned());
        match builder.spawn_scoped(self.scope, move || read_all(&receiver)) {
            Ok(thread) => Place::Thread(sender, thread),
            Err(_) => Place::Here(Of::new()),
        }
    }

    /// There are no more records.
    pub(super) fn end(self) -> Of {
        match self.place {
            Place::Nowhere => Of::new(),
            Place::Here(of) => of,
            Place::Thread(sender, thread) => {
                drop(sender);
                match thread.join() {
                    Ok(of) => of,
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        }
    }
}

fn read_all(receiver: &Receiver<Work>) -> Of {
    let mut of = Of::new();
    for work in receiver {
        read(&mut of, work);
    }
    of
}

fn read(of: &mut Of, work: Work) {
    of.extend(work.new);
    for record in &work.records {
        // A probe counts what it lost for all VMs together: the row names none.
        if matches!(record, Record::Loss(_)) {
            continue;
        }
        if let Some(of) = of.get_mut(&record.vm()) {
            of.add(record);
        }
    }
}
