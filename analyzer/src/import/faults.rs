//! The events of one thread to its faults.
//!
//! Where the hypervisor announces faults (`kvm_page_fault`, Intel and AMD), what comes up to the
//! next `kvm_entry` belongs to the fault. Where it does not (PVM), a fault that stored a leaf is
//! known by `kvm_mmu_spte_requested`, and the walk before it must lead to the same frame: else it
//! was the emulator's. A walk that failed and was followed by an injected #PF is the guest's fault,
//! even if it was the emulator that walked.

use events::{
    Cause, Class, ErrorCode, Gfn, Gpa, Gpte, Gva, Hpa, Level, Pfn, Seq, Spte, TimeNs, VcpuId, VmId,
};
use trace::{EntryRow, FaultRow};

use super::line::Line;

/// What a line completes.
#[derive(Debug)]
pub enum Done {
    /// A fault.
    Fault(Box<FaultRow>),
    /// An entry that was stored beside a fault's.
    Entry(EntryRow),
    /// A fault of which the outcome is not in the text.
    Unclassified,
}

/// A walk of the guest's tables.
#[derive(Clone, Copy, Debug)]
struct Walk {
    begin: u64,
    end: u64,
    gva: u64,
    error: u32,
    entries: [Option<u64>; 5],
    refused: bool,
}

/// A fault under way.
#[derive(Clone, Debug)]
struct Fault {
    begin: u64,
    /// The moment of its exit, if that was seen.
    exit: Option<u64>,
    end: u64,
    announced: bool,
    rip: Option<u64>,
    gva: Option<u64>,
    error: u32,
    walk: Option<Walk>,
    /// Frame asked for, host frame, moment.
    requested: Option<(u64, u64, u64)>,
    /// Number, place, value, level, moment.
    stored: Option<(Seq, u64, u64, u8, u64)>,
    unsync: bool,
    mmio: bool,
    injected: Option<(Seq, u64)>,
    entered: Option<u64>,
    /// Shadow pages made, found, zapped.
    pages: [u8; 3],
}

/// One thread.
#[derive(Debug)]
pub struct Thread {
    vm: VmId,
    vcpu: VcpuId,
    exit: Option<(u64, Option<u64>)>,
    walk: Option<Walk>,
    pages: [u8; 3],
    fault: Option<Fault>,
}

impl Thread {
    /// A vCPU's.
    pub fn new(vm: VmId, vcpu: VcpuId) -> Self {
        Self {
            vm,
            vcpu,
            exit: None,
            walk: None,
            pages: [0; 3],
            fault: None,
        }
    }

    /// Takes an event; `false` if it says nothing here. `seq` gives the next number.
    pub fn event(
        &mut self,
        line: &Line<'_>,
        seq: &mut impl FnMut() -> Seq,
        done: &mut Vec<Done>,
    ) -> bool {
        match line.event {
            "kvm_exit" => {
                self.close(None, seq, done);
                self.exit = Some((line.time_ns, line.hex("rip")));
            }
            "kvm_entry" => self.close(Some(line.time_ns), seq, done),
            "kvm_page_fault" => self.announced(line, seq, done),
            "kvm_mmu_pagetable_walk" => self.walk(line, seq, done),
            "kvm_mmu_paging_element" => self.element(line),
            "kvm_mmu_walker_error" => {
                if let Some(walk) = &mut self.walk {
                    (walk.refused, walk.end) = (true, line.time_ns);
                }
            }
            "kvm_mmu_spte_requested" => self.requested(line, seq, done),
            "kvm_mmu_set_spte" => self.stored(line, seq, done),
            "kvm_mmu_get_page" => {
                let new = line.arguments.ends_with("new") || line.raw("created") == Some("1");
                self.page(usize::from(!new));
            }
            "kvm_mmu_prepare_zap_page" => self.page(2),
            "kvm_mmu_unsync_page" => {
                if let Some(fault) = &mut self.fault {
                    fault.unsync = true;
                }
            }
            "mark_mmio_spte" => {
                if let Some(fault) = &mut self.fault {
                    (fault.mmio, fault.end) = (true, line.time_ns);
                }
            }
            "kvm_inj_exception" => self.injected(line, seq, done),
            "fast_page_fault" => return self.fast(line, seq, done),
            "handle_mmio_page_fault" => return self.mmio(line, seq, done),
            "kvm_mmu_sync_page" => {}
            _ => return false,
        }
        true
    }

    fn announced(&mut self, line: &Line<'_>, seq: &mut impl FnMut() -> Seq, done: &mut Vec<Done>) {
        self.close(None, seq, done);
        let exit = self.exit.take();
        let rip = line.hex("rip").or(exit.and_then(|(_, rip)| rip));
        self.walk = None;
        self.pages = [0; 3];
        self.fault = Some(Fault {
            announced: true,
            rip,
            gva: line.hex("address"),
            error: low(line.hex("error_code").unwrap_or_default()),
            exit: exit.map(|(time, _)| time),
            ..Fault::new(line.time_ns)
        });
    }

    fn walk(&mut self, line: &Line<'_>, seq: &mut impl FnMut() -> Seq, done: &mut Vec<Done>) {
        let (Some(gva), Some(error)) = (line.hex("addr"), line.hex("pferr")) else {
            return;
        };
        let walk = Walk {
            begin: line.time_ns,
            end: line.time_ns,
            gva,
            error: low(error),
            entries: [None; 5],
            refused: false,
        };
        match &self.fault {
            // Its own walk, or one of the emulator's after it.
            Some(fault) if fault.announced => {
                let own = fault.walk.is_none() && fault.gva == Some(gva) && self.walk.is_none();
                if own || self.walk.is_some() {
                    self.walk.get_or_insert(walk);
                }
            }
            _ => {
                self.close(None, seq, done);
                self.walk = Some(walk);
                self.pages = [0; 3];
            }
        }
    }

    fn element(&mut self, line: &Line<'_>) {
        let (Some(pte), Some(level)) = (line.hex("pte"), line.number::<usize>("level")) else {
            return;
        };
        let Some(walk) = &mut self.walk else { return };
        let lowest = walk.entries.iter().position(Option::is_some);
        let place = level.checked_sub(1).and_then(|at| walk.entries.get_mut(at));
        match place {
            // A walk goes down: else this is another one, of which the beginning is missing.
            Some(entry) if lowest.is_none_or(|lowest| level <= lowest) => {
                *entry = Some(pte);
                walk.end = line.time_ns;
            }
            _ if matches!(&self.fault, Some(fault) if fault.announced) => {}
            _ => self.walk = None,
        }
    }

    fn requested(&mut self, line: &Line<'_>, seq: &mut impl FnMut() -> Seq, done: &mut Vec<Done>) {
        let (Some(gfn), Some(pfn)) = (line.hex("gfn"), line.hex("pfn")) else {
            return;
        };
        self.close_unannounced(seq, done);
        let walk = self.walk.take().filter(|walk| walk.leads_to(gfn));
        let fault = match (&mut self.fault, walk) {
            (Some(fault), walk) if fault.announced => {
                fault.walk = walk;
                fault
            }
            (_, Some(walk)) => self.fault.insert(Fault {
                gva: Some(walk.gva),
                error: walk.error,
                walk: Some(walk),
                ..Fault::new(walk.begin)
            }),
            // Without the walk its address is not known.
            (_, None) => self.fault.insert(Fault::new(line.time_ns)),
        };
        fault.requested = Some((gfn, pfn, line.time_ns));
        fault.pages = std::mem::take(&mut self.pages);
        fault.end = line.time_ns;
    }

    fn stored(&mut self, line: &Line<'_>, seq: &mut impl FnMut() -> Seq, done: &mut Vec<Done>) {
        let (Some(gfn), Some(spte)) = (line.hex("gfn"), line.hex("spte")) else {
            return;
        };
        let (Some(level), Some(sptep)) = (line.number::<u8>("level"), line.hex("at")) else {
            return;
        };
        let frames = 1_u64 << (9 * u32::from(level.clamp(1, 5) - 1));
        if let Some(fault) = &mut self.fault
            && let Some((asked, ..)) = fault.requested
            && fault.stored.is_none()
            && asked & !(frames - 1) == gfn & !(frames - 1)
        {
            fault.stored = Some((seq(), sptep, spte, level, line.time_ns));
            fault.end = line.time_ns;
            return;
        }
        done.push(Done::Entry(EntryRow {
            seq: seq(),
            time_ns: TimeNs(line.time_ns),
            vm: self.vm,
            vcpu: Some(self.vcpu),
            cause: match self.fault {
                Some(_) => Cause::Prefetch,
                None => Cause::Other,
            },
            sptep: Hpa(sptep),
            spte: Spte(spte),
            old: None,
            level: Level(level),
            gfn: Some(Gfn(gfn)),
        }));
    }

    fn page(&mut self, what: usize) {
        let pages = match &mut self.fault {
            Some(fault) if fault.requested.is_some() => &mut fault.pages,
            _ => &mut self.pages,
        };
        if let Some(count) = pages.get_mut(what) {
            *count = count.saturating_add(1);
        }
    }

    fn injected(&mut self, line: &Line<'_>, seq: &mut impl FnMut() -> Seq, done: &mut Vec<Done>) {
        let raw = matches!(line.raw("exception"), Some("14" | "0xe"));
        if !raw && !line.arguments.starts_with("#PF") {
            return;
        }
        let Some(walk) = self.walk.take_if(|walk| walk.refused) else {
            return;
        };
        self.close_unannounced(seq, done);
        let fault = match &mut self.fault {
            Some(fault) if fault.injected.is_some() || fault.stored.is_some() => return,
            Some(fault) => fault,
            None => self.fault.insert(Fault {
                gva: Some(walk.gva),
                error: walk.error,
                ..Fault::new(walk.begin)
            }),
        };
        fault.walk = Some(walk);
        fault.injected = Some((seq(), line.time_ns));
        fault.end = line.time_ns;
    }

    fn fast(
        &mut self,
        line: &Line<'_>,
        seq: &mut impl FnMut() -> Seq,
        done: &mut Vec<Done>,
    ) -> bool {
        let class = match (line.word("fixed"), line.word("spurious")) {
            (Some("1"), _) => Class::Fast,
            (_, Some("1")) => Class::Spurious,
            // It takes the slow path.
            _ => return true,
        };
        let Some(gva) = line.hex("gva") else {
            return false;
        };
        let error = line.word("error_code").map_or(0, flags);
        self.whole(class, gva, error, line.time_ns, seq, done);
        true
    }

    /// A marker of MMIO was hit.
    fn mmio(
        &mut self,
        line: &Line<'_>,
        seq: &mut impl FnMut() -> Seq,
        done: &mut Vec<Done>,
    ) -> bool {
        // `addr:1000`, unlike all others.
        let mut words = line.arguments.split_ascii_whitespace();
        let gva = words.find_map(|word| word.strip_prefix("addr:"));
        let Some(gva) = gva.and_then(|gva| u64::from_str_radix(gva, 16).ok()) else {
            return false;
        };
        self.whole(Class::Mmio, gva, ErrorCode::RSVD.0, line.time_ns, seq, done);
        true
    }

    /// A fault that one event shows.
    fn whole(
        &mut self,
        class: Class,
        gva: u64,
        error: u32,
        time: u64,
        seq: &mut impl FnMut() -> Seq,
        done: &mut Vec<Done>,
    ) {
        let is_open = |fault: &mut Fault| {
            fault.announced && fault.stored.is_none() && fault.injected.is_none()
        };
        let announced = self.fault.take_if(is_open);
        self.close(None, seq, done);
        let fault = announced.unwrap_or(Fault {
            error,
            ..Fault::new(time)
        });
        let fault = Fault {
            gva: Some(gva),
            end: time,
            ..fault
        };
        done.push(Done::Fault(Box::new(self.row(&fault, class, seq()))));
    }

    /// A fault that nothing announced is over when another one begins.
    fn close_unannounced(&mut self, seq: &mut impl FnMut() -> Seq, done: &mut Vec<Done>) {
        if self.fault.as_ref().is_some_and(|fault| !fault.announced) {
            self.close(None, seq, done);
        }
    }

    /// Events are missing: what is known of the thread may not belong together.
    pub fn cut(&mut self, seq: &mut impl FnMut() -> Seq, done: &mut Vec<Done>) {
        self.close(None, seq, done);
        (self.walk, self.exit, self.pages) = (None, None, [0; 3]);
    }

    /// The fault under way is over.
    pub fn close(
        &mut self,
        entered: Option<u64>,
        seq: &mut impl FnMut() -> Seq,
        done: &mut Vec<Done>,
    ) {
        let Some(mut fault) = self.fault.take() else {
            return;
        };
        if let Some(entered) = entered {
            (fault.entered, fault.end) = (Some(entered), entered);
        }
        let outcome = match (fault.stored, fault.injected) {
            (Some((number, ..)), _) if fault.unsync => Some((Class::Unsync, number)),
            (Some((number, ..)), _) => Some((Class::Shadow, number)),
            (None, Some((number, _))) => Some((Class::Guest, number)),
            (None, None) if fault.mmio && fault.gva.is_some() => Some((Class::Mmio, seq())),
            (None, None) => None,
        };
        // A number that was taken must have its row.
        let known = fault.gva.is_some();
        match outcome {
            Some((class, number)) if known => {
                done.push(Done::Fault(Box::new(self.row(&fault, class, number))));
            }
            Some((_, number)) => {
                if let Some((_, sptep, spte, level, time)) = fault.stored {
                    let gfn = fault.requested.map(|(gfn, ..)| Gfn(gfn));
                    done.push(Done::Entry(EntryRow {
                        seq: number,
                        time_ns: TimeNs(time),
                        vm: self.vm,
                        vcpu: Some(self.vcpu),
                        cause: Cause::Fault,
                        sptep: Hpa(sptep),
                        spte: Spte(spte),
                        old: None,
                        level: Level(level),
                        gfn,
                    }));
                }
                done.push(Done::Unclassified);
            }
            None => done.push(Done::Unclassified),
        }
    }

    fn row(&self, fault: &Fault, class: Class, seq: Seq) -> FaultRow {
        let begin = fault.exit.unwrap_or(fault.begin);
        let gpte = |level: usize| {
            let walk = fault.walk.as_ref()?;
            walk.entries.get(level - 1).copied().flatten().map(Gpte)
        };
        let gva = fault.gva.unwrap_or_default();
        let requested = fault.requested;
        let stored = fault.stored;
        let walk = fault.walk.as_ref();
        FaultRow {
            seq,
            time_ns: TimeNs(begin),
            vm: self.vm,
            vcpu: self.vcpu,
            class,
            gva: Gva(gva),
            error_code: ErrorCode(fault.error),
            // The text has neither.
            cr3: Gpa(0),
            root: Hpa(0),
            rip: fault.rip.map(Gva),
            gpte5: gpte(5),
            gpte4: gpte(4),
            gpte3: gpte(3),
            gpte2: gpte(2),
            gpte1: gpte(1),
            gpa: requested.map(|(gfn, ..)| Gpa(gfn << 12 | gva & 0xfff)),
            slot: None,
            hva: None,
            pfn: requested.map(|(_, pfn, _)| Pfn(pfn)),
            sptep: stored.map(|(_, sptep, ..)| Hpa(sptep)),
            spte: stored.map(|(_, _, spte, ..)| Spte(spte)),
            level: stored.map(|(_, _, _, level, _)| Level(level)),
            created: fault.pages[0],
            reused: fault.pages[1],
            zapped: fault.pages[2],
            total_ns: fault.end.saturating_sub(begin),
            exit_ns: fault.exit.and_then(|exit| walk?.begin.checked_sub(exit)),
            walk_ns: walk.and_then(|walk| walk.end.checked_sub(walk.begin)),
            pfn_ns: None,
            hva_ns: None,
            tables_ns: None,
            pfn_tables_ns: requested.and_then(|(.., at)| at.checked_sub(walk?.end)),
            write_ns: stored.and_then(|(.., at)| at.checked_sub(requested?.2)),
            inject_ns: fault.injected.and_then(|(_, at)| at.checked_sub(walk?.end)),
            emulate_ns: None,
            entry_ns: fault.entered.and_then(|entered| {
                let last = stored
                    .map(|(.., at)| at)
                    .or(fault.injected.map(|(_, at)| at));
                entered.checked_sub(last?)
            }),
            errno: None,
            switches: None,
        }
    }
}

impl Fault {
    fn new(begin: u64) -> Self {
        Self {
            begin,
            exit: None,
            end: begin,
            announced: false,
            rip: None,
            gva: None,
            error: 0,
            walk: None,
            requested: None,
            stored: None,
            unsync: false,
            mmio: false,
            injected: None,
            entered: None,
            pages: [0; 3],
        }
    }
}

/// Bits of an entry that hold a frame.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// A large page: PS.
const LARGE: u64 = 1 << 7;

impl Walk {
    /// Whether its last entry maps the address to this frame.
    fn leads_to(&self, gfn: u64) -> bool {
        let last = self.entries.iter().position(Option::is_some);
        let Some((level, entry)) = last.and_then(|at| Some((at, self.entries.get(at).copied()??)))
        else {
            return false;
        };
        if self.refused || (level > 0 && entry & LARGE == 0) {
            return false;
        }
        let frames = 1_u64 << (9 * level);
        let within = (self.gva >> 12) & (frames - 1);
        ((entry & FRAME) >> 12) & !(frames - 1) | within == gfn
    }
}

fn low(error: u64) -> u32 {
    u32::try_from(error & u64::from(u32::MAX)).unwrap_or_default()
}

/// `P|W|U`, as the kernel prints the bits.
fn flags(words: &str) -> u32 {
    let bit = |name| match name {
        "P" => ErrorCode::PRESENT.0,
        "W" => ErrorCode::WRITE.0,
        "U" => ErrorCode::USER.0,
        "PK" => ErrorCode::PK.0,
        "SS" => ErrorCode::SS.0,
        "SGX" => ErrorCode::SGX.0,
        "RSVD" => ErrorCode::RSVD.0,
        "F" => ErrorCode::FETCH.0,
        _ => 0,
    };
    words.split('|').fold(0, |error, name| error | bit(name))
}
