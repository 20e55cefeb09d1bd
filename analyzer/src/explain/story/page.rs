//! The life of a shadow page.

use super::record;
use crate::{
    explain::{
        facts::{Moment, PageFacts, Zap},
        render::Lines,
        words::{self, kernel},
    },
    text::units::{count, ns, plural, since},
};

/// The story of a page.
pub fn page(out: &mut Lines, of: &PageFacts) {
    let (spt, life, level, gfn) = (of.spt, of.number, of.level, of.gfn);
    out.line(0, format!("Shadow page {spt}, life {life}: level {level}"));
    match of.direct {
        true => out.line(
            2,
            format!("direct: it maps from gfn {gfn} on, and shadows no guest table"),
        ),
        false => out.line(2, format!("it shadows the guest's table at gfn {gfn}")),
    }
    if of.missing_records > 0 {
        let missing = plural(of.missing_records, "record");
        out.line(2, format!("missing during its life: {missing}"));
    }
    out.blank();
    birth(out, of);
    links(out, of);
    entries(out, of);
    unsync(out, of);
    out.section(5, "Its end");
    match &of.zapped {
        Some(zap) => end(out, of, zap),
        None => {
            let entries = plural(u64::from(of.entries), "entry");
            out.line(
                3,
                format!("none: it exists at the end of the trace, with {entries}"),
            );
        }
    }
    if let Some(bill) = &of.bill {
        out.blank();
        record::came_of(out, bill);
    }
}

fn at(of: &PageFacts, moment: &Moment) -> String {
    let (time, thread) = (
        since(moment.time_ns.0, of.start_ns),
        words::thread(moment.vcpu),
    );
    let (seq, phase) = (count(moment.seq.0), words::phase(moment.phase.as_ref()));
    format!("{time} after the start, on {thread} (seq {seq}){phase}")
}

fn birth(out: &mut Lines, of: &PageFacts) {
    out.section(1, "Its birth");
    let at = at(of, &of.first);
    if !of.was_born {
        return out.line(
            3,
            format!("it existed before the first record that names it: {at}"),
        );
    }
    out.line(3, format!("made, empty: {at}"));
    match of.first.fault.as_ref().map(words::fault) {
        Some(by) if of.first.is_root => {
            out.line(3, format!("as the root that {by} ran on (kvm_mmu_load)"));
        }
        Some(by) => out.line(3, format!("on the path of {by} (kvm_mmu_get_page)")),
        None => {}
    }
    if !of.direct {
        out.line(
            3,
            "from then on the frame of the guest's table is write-protected: each leaf that maps \
             it lost W and M",
        );
    }
}

fn links(out: &mut Lines, of: &PageFacts) {
    out.section(2, "Where it is linked");
    for link in &of.links {
        let (level, place, seq) = (link.level, link.sptep, count(link.seq.0));
        let after = ns(link.time_ns.0.saturating_sub(of.first.time_ns.0));
        let link_at = format!("level {level} entry {} at {place}", place.index());
        let line = format!("{link_at} points to it, {after} after the first record (seq {seq})");
        out.line(3, line);
        out.translations(6, &link.translations);
    }
    out.more(3, of.links_total, of.links.len());
    if of.links.is_empty() {
        out.line(
            3,
            "the trace shows no entry that points to it; a root has none",
        );
    }
}

fn entries(out: &mut Lines, of: &PageFacts) {
    out.section(3, "Its entries");
    out.line(
        3,
        format!("{} at most", plural(u64::from(of.most_entries), "entry")),
    );
    if of.leaves_by_faults > 0 {
        let leaves = plural(of.leaves_by_faults, "leaf entry");
        out.line(3, format!("{leaves} stored by faults"));
    }
    for (cause, number) in &of.changes {
        let (changes, name) = (plural(*number, "change"), cause.name());
        out.line(
            3,
            format!("{changes} by {name}: {}", kernel::why(*cause).clause),
        );
    }
    if of.reused > 0 {
        let times = plural(of.reused, "time");
        out.line(
            3,
            format!("found again by gfn and role, and used once more: {times}"),
        );
    }
}

fn unsync(out: &mut Lines, of: &PageFacts) {
    out.section(4, "When the guest could write its table (unsync)");
    for period in &of.unsync {
        out.unsync(period, of.start_ns);
    }
    out.more(3, of.unsync_total, of.unsync.len());
    if let Some(why) = &of.never_unsync {
        out.line(3, &why.text);
    }
}

fn end(out: &mut Lines, of: &PageFacts, zap: &Zap) {
    out.line(3, format!("zapped: {}", at(of, &zap.at)));
    let age = ns(zap.at.time_ns.0.saturating_sub(of.first.time_ns.0));
    let entries = plural(u64::from(of.entries), "entry");
    let parents = plural(zap.parents as u64, "entry");
    out.line(
        3,
        format!("after {age}, with {entries} and {parents} that pointed to it"),
    );
    out.line(3, words::zap_cause(&zap.why));
    if let Some(seq) = zap.freed {
        let seq = count(seq.0);
        out.line(
            3,
            format!("a root in use, so it was freed later, by a second zap (seq {seq})"),
        );
    }
    if let Some(by) = &zap.at.fault {
        out.line(3, format!("the next fault there: {}", words::fault(by)));
    }
}
