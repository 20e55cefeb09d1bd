//! A shadow page's life as text for 100 columns.

use events::TimeNs;

use super::{
    change_text::{fault, phase, thread, wrap},
    life::{End, Life, Moment, Zap},
    why,
};
use crate::text::units::{count, ns, plural, since};

/// The story of a page.
pub(super) fn text(of: &Life) -> String {
    let what = match of.direct {
        true => format!(
            "direct: it maps gfn {} and on by itself, with no guest table behind it",
            of.gfn
        ),
        false => format!("it shadows the guest's table at gfn {}", of.gfn),
    };
    let mut out = format!(
        "Shadow page {}, life {}: level {}\n  {what}\n",
        of.spt, of.number, of.level
    );
    if of.missing > 0 {
        out.push_str(&format!(
            "  {} are missing in its time\n",
            plural(of.missing, "record")
        ));
    }
    out.push('\n');
    born(&mut out, of);
    linked(&mut out, of);
    used(&mut out, of);
    unsync(&mut out, of);
    match &of.end {
        Some(end) => ended(&mut out, of, end),
        None => out.push_str(&format!(
            "5  Its end\n   none: it is there at the end of the trace, with {}\n",
            plural(u64::from(of.entries), "entry")
        )),
    }
    out
}

fn at(of: &Life, moment: &Moment) -> String {
    format!(
        "{} after the start, on {} (seq {}){}",
        since(moment.time.0, of.start_ns),
        thread(moment.vcpu.map(|vcpu| vcpu.0)),
        count(moment.seq.0),
        phase(moment.phase.as_ref()),
    )
}

fn born(out: &mut String, of: &Life) {
    out.push_str("1  Its birth\n");
    let first = &of.first;
    let how = match of.was_born {
        true => "made, empty",
        false => "it was there before the first record that names it",
    };
    out.push_str(&format!("   {how}: {}\n", at(of, first)));
    match (of.was_born, &first.fault) {
        (true, Some(by)) if first.is_root => {
            out.push_str(&format!(
                "   as the root that {} ran on (kvm_mmu_load)\n",
                fault(by)
            ));
        }
        (true, Some(by)) => out.push_str(&format!(
            "   on the way of {} (kvm_mmu_get_page)\n",
            fault(by)
        )),
        _ => {}
    }
    if of.was_born && !of.direct {
        wrap(
            out,
            "from then on the frame of the guest's table is write-protected: each leaf that maps it lost W and M",
        );
    }
}

fn linked(out: &mut String, of: &Life) {
    out.push_str("2  Where it is linked\n");
    for link in &of.links {
        out.push_str(&format!(
            "   level {} entry {} points to it, {} after the first record (seq {})\n",
            link.level,
            link.place,
            ns(link.time.0.saturating_sub(of.first.time.0)),
            count(link.seq.0)
        ));
        for way in &link.ways.found {
            out.push_str(&format!(
                "      for gva {} and on, from root {}\n",
                way.gva, way.root
            ));
        }
    }
    more(out, of.links_total, of.links.len(), "link");
    if of.links.is_empty() {
        out.push_str("   nowhere that a record tells: a root has no entry above it\n");
    }
}

fn more(out: &mut String, total: u64, told: usize, what: &str) {
    let more = total.saturating_sub(told as u64);
    if more > 0 {
        out.push_str(&format!(
            "   and {}\n",
            plural(more, &format!("more {what}"))
        ));
    }
}

fn used(out: &mut String, of: &Life) {
    out.push_str("3  Its entries\n");
    out.push_str(&format!(
        "   {} at most\n",
        plural(u64::from(of.most), "entry")
    ));
    if of.leaves > 0 {
        out.push_str(&format!(
            "   {} stored as those of faults\n",
            plural(of.leaves, "leaf entry")
        ));
    }
    for (cause, number) in &of.changes {
        let words = format!(
            "{} by {}: {}",
            plural(*number, "change"),
            cause.name(),
            why::why(*cause).clause
        );
        wrap(out, &words);
    }
    if of.reused > 0 {
        out.push_str(&format!(
            "   found again by gfn and role and used once more: {}\n",
            plural(of.reused, "time")
        ));
    }
}

fn unsync(out: &mut String, of: &Life) {
    out.push_str("4  When the guest could write its table (unsync)\n");
    for period in &of.unsync {
        let by = period
            .fault
            .map(|by| format!(", by {}", fault(&by)))
            .unwrap_or_default();
        out.push_str(&format!(
            "   from {} after the start (seq {}){by}\n",
            since(period.time.0, of.start_ns),
            count(period.seq.0)
        ));
        let until = match period.synced {
            Some((seq, time, _)) => format!(
                "for {}, until it was synced (seq {})",
                length(period.time, time),
                count(seq.0)
            ),
            None => "not taken out of that state".to_owned(),
        };
        out.push_str(&format!(
            "      {until}; entries changed: {} by sync, {} by INVLPG\n",
            count(period.by_sync),
            count(period.by_invlpg)
        ));
    }
    more(out, of.unsync_total, of.unsync.len(), "time");
    if of.unsync_total == 0 {
        let why = match (of.direct, of.level.0) {
            (true, _) => "never: a direct page has no guest table",
            (_, 1) => "never: no store went to its table through a mapping of the guest's",
            _ => "never: only tables of level 1 may be; stores to it are emulated",
        };
        out.push_str(&format!("   {why}\n"));
    }
}

fn length(from: TimeNs, to: TimeNs) -> String {
    ns(to.0.saturating_sub(from.0))
}

fn ended(out: &mut String, of: &Life, end: &End) {
    out.push_str("5  Its end\n");
    out.push_str(&format!(
        "   zapped: {}\n   after {}, with {} and {} that pointed to it\n",
        at(of, &end.at),
        length(of.first.time, end.at.time),
        plural(u64::from(of.entries), "entry"),
        plural(end.parents as u64, "entry"),
    ));
    let why = match &end.why {
        Zap::Store(seq, stores) if of.level.0 > 1 && *stores >= 3 => format!(
            "by the guest's store to its table (seq {}), the {} since KVM last used it: write flooding, so \
             KVM takes it for no table any more",
            count(seq.0),
            ordinal(*stores)
        ),
        Zap::Store(seq, _) => format!(
            "by the guest's store to its table (seq {}): short, or across two entries, so that KVM cannot \
             tell which one it makes stale",
            count(seq.0)
        ),
        Zap::SyncFailed => "its sync failed: its role or its guest table does not fit any more".to_owned(),
        Zap::WithParent(parent) => {
            format!("with table {parent}, which pointed to it: an unsync page does not outlive it")
        }
        Zap::Host(row) => format!("{} (seq {})", why::act(row.event), count(row.seq.0)),
        Zap::InFault => "no store, sync or act of the host's led to it: KVM makes room for a new page \
             (n_max_mmu_pages), or its frame is mapped as another table, or an instruction is better retried \
             than emulated"
            .to_owned(),
        Zap::NoVcpu => "on no vCPU's thread: the VM is let go, a memslot changes, or the number of its \
             pages is set lower"
            .to_owned(),
    };
    wrap(out, &why);
    if let Some(by) = &end.at.fault {
        out.push_str(&format!("   the next fault there: {}\n", fault(by)));
    }
}

fn ordinal(number: u32) -> String {
    match (number % 10, number % 100) {
        (1, n) if n != 11 => format!("{number}st"),
        (2, n) if n != 12 => format!("{number}nd"),
        (3, n) if n != 13 => format!("{number}rd"),
        _ => format!("{number}th"),
    }
}
