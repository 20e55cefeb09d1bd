//! Why a fault's entry was missing.

use events::{Class, Gpa, Gva, Hpa, Level, Spte};
use trace::FaultRow;

use super::{
    At, Loss, Other, RefaultCause, Refaults, State,
    act::ActId,
    removals::{gives_more, present},
};
use crate::{
    faults::{self, refuses},
    replay::VmReplay,
};

/// Why a fault's leaf was missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaf {
    /// An act removed or weakened it.
    Lost(ActId),
    /// It was mapped, and no record shows what changed that.
    Unseen,
    /// It was not mapped before.
    First,
    /// It was too weak, and nothing had weakened it.
    Weak,
    /// It was there, and strong enough.
    There,
    /// It, or the path to it, went while the fault was handled.
    Went,
    /// There is no path to a leaf.
    NoPath,
    /// Its guest table is beyond the bound, or its shadow page is unknown.
    NotFollowed,
}

/// The first address of those that a table of `level` maps, of which `gva` is one.
fn base(gva: Gva, level: Level) -> Gva {
    Gva(gva.0 & !(level.pages().wrapping_shl(21).wrapping_sub(1)))
}

impl Refaults {
    pub(super) fn fault(&mut self, row: &FaultRow, vm: &VmReplay) {
        self.end_zaps_of(row);
        let thread = self.thread(Some(row.vcpu));
        thread.fault = Some((row.seq, row.time_ns, row.gpa.map(|gpa| gpa.gfn())));
        let stores = row.class == Class::WriteProtected;
        thread.stored = faults::gpa(row).map(Gpa::gfn).filter(|_| stores);
        let (link, linked) = (thread.link.take(), std::mem::take(&mut thread.linked));
        let over = [
            thread.store.take().and_then(|store| store.act),
            thread.sync.take().map(|(_, act)| act),
            thread.dropped.take(),
            link,
        ];
        thread.synced = None;
        if matches!(row.class, Class::Guest | Class::Mmio) {
            self.no_refault(Other::NeedsNone, row);
        } else {
            let (leaf, filled) = match row.sptep.zip(row.spte) {
                Some((place, spte)) => self.stored(row, place, spte, vm),
                None if row.class == Class::Spurious => (Leaf::There, None),
                None => (self.not_stored(row, vm), None),
            };
            let link = link.filter(|act| self.is_before(*act, row));
            match (leaf, link) {
                // The leaf was there, below an upper table that had not been linked to its table.
                (Leaf::There, None) if linked => self.no_refault(Other::First, row),
                _ => self.count(row, leaf, link),
            }
            if let Some(place) = row.sptep {
                let end = row.time_ns.0.saturating_add(row.total_ns);
                let stored = end.saturating_sub(row.entry_ns.unwrap_or(0));
                self.stores(place, Some(row.vcpu), stored);
            }
            // Not before the fault is counted: it may be the last that the act led to.
            self.release(filled);
        }
        for act in over {
            self.release(act);
        }
    }

    fn count(&mut self, row: &FaultRow, leaf: Leaf, link: Option<ActId>) {
        use Class::{Fast, Shadow, Unsync};
        match (leaf, link) {
            (Leaf::Lost(act), link) => {
                let act = self.earlier(act, link);
                self.refault(Some(act), row);
            }
            (Leaf::There | Leaf::Weak | Leaf::Went | Leaf::NoPath, Some(link)) => {
                self.refault(Some(link), row)
            }
            (Leaf::Unseen, _) => self.refault(None, row),
            (Leaf::There, None)
                if matches!(row.class, Shadow | Unsync | Fast) && !self.was_overtaken(row) =>
            {
                self.refault(None, row);
            }
            (Leaf::First, _) => self.no_refault(Other::First, row),
            (Leaf::Weak, None) => self.no_refault(Other::Strengthened, row),
            (Leaf::There | Leaf::NoPath, None) => {
                self.no_refault(Other::NothingMissing, row);
            }
            (Leaf::Went, None) => self.no_refault(Other::WentMeanwhile, row),
            (Leaf::NotFollowed, _) => self.no_refault(Other::NotFollowed, row),
        }
    }

    fn earlier(&self, act: ActId, link: Option<ActId>) -> ActId {
        let seq = |act: ActId| self.acts.get(act).map(|act| act.seq);
        link.filter(|link| seq(*link) < seq(act)).unwrap_or(act)
    }

    /// Whether an act came before the fault began. What a sync changed may be found later than
    /// that, by comparing the page with its copy.
    fn is_before(&self, act: ActId, row: &FaultRow) -> bool {
        let late = [RefaultCause::Sync, RefaultCause::Invlpg];
        self.acts
            .get(act)
            .is_some_and(|act| act.time < row.time_ns || late.contains(&act.cause))
    }

    fn lost(&self, act: ActId, row: &FaultRow) -> Leaf {
        match self.is_before(act, row) {
            true => Leaf::Lost(act),
            false => Leaf::Went,
        }
    }

    /// The fault stored its leaf; also gives the act that no longer misses the entry.
    fn stored(
        &mut self,
        row: &FaultRow,
        place: Hpa,
        spte: Spte,
        vm: &VmReplay,
    ) -> (Leaf, Option<ActId>) {
        let Some(at) = self.places.at(place, vm) else {
            return (self.without_place(place), None);
        };
        let level = row.level.unwrap_or(Level(1));
        for act in self.places.set_base(at, base(row.gva, level)) {
            self.acts.release(act);
        }
        let state = self.places.state(at);
        if state == State::Never && self.from_birth {
            let leaf = self.first(at, row);
            self.places.set(at, present(spte));
            return (leaf, None);
        }
        let before = vm.tables().entry(place);
        let before = before.filter(|before| before.is_shadow_present());
        let mut leaf = match before {
            // A large leaf comes in place of a table: what was missing is below.
            Some(before) if !before.is_leaf(level) => self.not_stored(row, vm),
            _ => self.why(at, row, before),
        };
        if let (Some(before), true) = (before, leaf == Leaf::There)
            && before.is_leaf(level)
            && before.pfn() != spte.pfn()
        {
            leaf = Leaf::Unseen;
        }
        // A leaf that stays weak faults again for the same reason.
        let stays = matches!(state, State::Lost(_))
            && before.is_some_and(|before| !gives_more(spte, before));
        let filled = match stays {
            true => None,
            false => self.places.set(at, present(spte)).act(),
        };
        (leaf, filled)
    }

    /// The fault stored no leaf: the entry that ended its walk is what it was.
    fn not_stored(&mut self, row: &FaultRow, vm: &VmReplay) -> Leaf {
        let walk = vm.walk(row.root, row.gva);
        let Some(last) = walk.steps.last().filter(|step| !step.is_pdpte) else {
            return Leaf::NoPath;
        };
        let place = Hpa(last.spt.0.wrapping_add(u64::from(last.index) * 8));
        let Some(at) = self.places.at(place, vm) else {
            return self.without_place(place);
        };
        let before = last.spte.is_shadow_present().then_some(last.spte);
        self.why(at, row, before)
    }

    /// A walk that ended in an obsolete page is stale: KVM gives the fault up.
    fn without_place(&self, place: Hpa) -> Leaf {
        match self.places.is_obsolete(place.table()) {
            true => Leaf::Went,
            false => Leaf::NotFollowed,
        }
    }

    /// Why the entry at `at`, which was `before`, did not do.
    fn why(&self, at: At, row: &FaultRow, before: Option<Spte>) -> Leaf {
        let refused = before.is_some_and(|before| refuses(before, row.error_code));
        match (self.places.state(at), before) {
            (State::Lost(Loss { act, .. }), None) => self.lost(act, row),
            (State::Lost(Loss { act, .. }), Some(_)) if refused => self.lost(act, row),
            (State::Never, None) => self.first(at, row),
            (State::Mapped | State::Writable, None) => Leaf::Unseen,
            (State::Writable, Some(before))
                if row.error_code.is_write() && !before.is_writable() =>
            {
                Leaf::Unseen
            }
            (_, Some(_)) if refused => Leaf::Weak,
            (_, Some(_)) => Leaf::There,
        }
    }

    /// No record mapped the entry; a large page may have.
    fn first(&self, at: At, row: &FaultRow) -> Leaf {
        match self.places.split(at) {
            Some(act) => self.lost(act, row),
            None => Leaf::First,
        }
    }
}
