//! `find` lists what a search of the whole tables finds at any moment.

use std::collections::{BTreeMap, BTreeSet};

use analyzer::{
    find::{Find, Span, Target},
    listing::Window,
    replay::{ShadowPage, VmReplay, canonical, first_gva},
    study::Study,
    table::{Moment, Snapshot, snapshots},
};
use events::{Gfn, Gva, Hpa, Level, Pfn, Seq, VmId};
use trace::Trace;

use crate::support;

/// Root (0 for none), first address (0 for none), host frame, rights and place of a mapping.
type Found = BTreeSet<(u64, u64, u64, String, u64)>;

/// Recordings with aliases, zaps, syncs, dirty logs, unmaps, PAE roots and several keyframes.
const RECORDINGS: [&str; 9] = [
    "alias-lab",
    "boot-lab",
    "demand",
    "dirty-lab",
    "flood-lab",
    "keyframes",
    "loads",
    "roots",
    "unsync",
];
const MOMENTS: u64 = 10;

fn recording(name: &str) -> Trace {
    Trace::open(&support::recording(name)).expect("a recording")
}

/// A leaf with the way to it.
struct Leaf {
    root: Hpa,
    gva: Gva,
    place: Hpa,
    spte: events::Spte,
    level: Level,
    gfn: Option<Gfn>,
}

/// Every leaf below every root, the long way: from the roots down.
fn leaves(vm: &VmReplay) -> Vec<Leaf> {
    let mut all = Vec::new();
    for root in vm.table_roots().all() {
        match vm.pdptes(root) {
            Some(pdptes) => {
                for (number, table) in (0_u64..).zip(pdptes) {
                    if let Some(page) = vm.pdpte_table(*table) {
                        below(vm, root, Level(3), page, number << 30, &mut all);
                    }
                }
            }
            None => {
                let page = vm.tables().page(root).expect("a root");
                below(vm, root, page.info.level, page, first_gva(page), &mut all);
            }
        }
    }
    all
}

fn below(
    vm: &VmReplay,
    root: Hpa,
    root_level: Level,
    page: &ShadowPage,
    base: u64,
    all: &mut Vec<Leaf>,
) {
    let level = page.info.level;
    for (index, spte) in page.entries() {
        let gva = base.wrapping_add((level.pages() << 12).wrapping_mul(u64::from(index)));
        if spte.is_leaf(level) {
            all.push(Leaf {
                root,
                gva: canonical(gva, root_level),
                place: page.place(index),
                spte,
                level,
                gfn: page.leaf_gfn(index),
            });
        } else if let Some(child) = vm.tables().child(page, spte) {
            below(vm, root, root_level, child, gva, all);
        }
    }
}

fn is_meant(target: Target, leaf: &Leaf) -> bool {
    let pages = leaf.level.pages();
    let holds = |first: u64, one: u64| (first..first + pages).contains(&one);
    match target {
        Target::Gva(gva) => (leaf.gva.0..leaf.gva.0 + (pages << 12)).contains(&gva.0),
        Target::Gfn(gfn) => leaf.gfn.is_some_and(|first| holds(first.0, gfn.0)),
        Target::Pfn(pfn) => holds(leaf.spte.pfn().0, pfn.0),
    }
}

fn searched(target: Target, snapshot: &Snapshot) -> Found {
    let all = leaves(&snapshot.vm);
    let mine = all.iter().filter(|leaf| is_meant(target, leaf));
    let mine = mine.map(|leaf| {
        let rights = analyzer::text::flags::rights(leaf.spte);
        let pfn = leaf.spte.pfn().0;
        (leaf.root.0, leaf.gva.0, pfn, rights, leaf.place.0)
    });
    mine.collect()
}

fn listed(find: &Find, seq: Seq) -> Found {
    let mappings = find.mappings().filter(|mapping| mapping.is_at(seq));
    let rooted = mappings.filter_map(|mapping| {
        let path = mapping.path?;
        let pfn = mapping.pfn().0;
        Some((
            path.root.0,
            path.gva.0,
            pfn,
            mapping.rights(),
            mapping.sptep.0,
        ))
    });
    rooted.collect()
}

/// Frames and addresses that are mapped at some of the moments: those with most mappings, and
/// some others.
fn targets(snapshots: &[Snapshot]) -> Vec<Target> {
    let (mut pfns, mut gfns, mut gvas) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for leaf in snapshots.iter().flat_map(|snapshot| leaves(&snapshot.vm)) {
        *pfns.entry(leaf.spte.pfn()).or_insert(0_u64) += 1;
        *gvas.entry(leaf.gva).or_insert(0_u64) += 1;
        if let Some(gfn) = leaf.gfn {
            *gfns.entry(gfn).or_insert(0_u64) += 1;
        }
    }
    fn some<T: Copy>(counts: BTreeMap<T, u64>) -> Vec<T> {
        let step = (counts.len() / 5).max(1);
        let most = counts.iter().max_by_key(|(_, count)| **count);
        let most = most.map(|(key, _)| *key).into_iter();
        most.chain(counts.keys().copied().step_by(step)).collect()
    }
    let pfns = some(pfns).into_iter().map(|Pfn(pfn)| Target::Pfn(Pfn(pfn)));
    let gfns = some(gfns).into_iter().map(Target::Gfn);
    let gvas = some(gvas).into_iter().map(Target::Gva);
    pfns.chain(gfns).chain(gvas).collect()
}

#[test]
fn find_lists_what_a_search_of_the_tables_finds() {
    for name in RECORDINGS {
        let trace = recording(name);
        let last = trace.segments().iter().map(|segment| segment.seq[1]).max();
        let last = last.expect("records");
        let moments = (1..=MOMENTS).map(|part| Moment::Seq(last * part / MOMENTS));
        let moments: Vec<_> = moments.collect();
        let taken = snapshots(&trace, VmId(0), &moments, &mut |_| {}).expect("snapshots");
        let mut compared = 0;
        for target in targets(&taken) {
            let study = Study::with(
                &trace,
                None,
                |_| Find::new(target, Span::default()),
                &mut |_| {},
            );
            let study = study.expect("a study");
            let find = &study.vms[&VmId(0)];
            assert_eq!(find.cut(), None, "{name}: {target:?}");
            for snapshot in &taken {
                let searched = searched(target, snapshot);
                let at = format!("{name}: {target:?} at seq {}", snapshot.seq.0);
                let listed = listed(find, snapshot.seq);
                let missed: Vec<_> = searched.difference(&listed).take(3).collect();
                let wrong: Vec<_> = listed.difference(&searched).take(3).collect();
                assert!(missed.is_empty(), "{at}: not listed: {missed:x?}");
                assert!(wrong.is_empty(), "{at}: listed and not there: {wrong:x?}");
                compared += searched.len();
            }
        }
        assert!(compared > 50, "{name}: {compared} mappings compared");
    }
}

#[test]
fn find_at_a_moment_lists_what_is_there_then_and_nothing_else() {
    let trace = recording("keyframes");
    let last = trace.segments().iter().map(|segment| segment.seq[1]).max();
    let last = last.expect("records");
    let find = |target, span: &Span| {
        let study = Study::with(
            &trace,
            None,
            |_| Find::new(target, span.clone()),
            &mut |_| {},
        );
        let mut study = study.expect("a study");
        study.vms.remove(&VmId(0)).expect("its VM")
    };
    let mut compared = 0;
    for moment in [last / 3, last * 2 / 3].map(Moment::Seq) {
        let taken = snapshots(&trace, VmId(0), std::slice::from_ref(&moment), &mut |_| {});
        let taken = taken.expect("snapshots");
        let window = Window::new(None, Some(&moment), &trace).expect("a moment");
        let rest = Window::new(Some(&moment), None, &trace).expect("a moment");
        for target in targets(&taken) {
            let at = find(target, &Span::at_end_of(window.clone()));
            let seq = taken[0].seq;
            assert!(at.mappings().all(|mapping| mapping.is_at(seq)));
            assert_eq!(listed(&at, seq), searched(target, &taken[0]), "{target:?}");
            compared += at.mappings().count();
            // What is there now is there in the stretch that begins now, and what ended is not.
            let from = find(target, &Span::within(rest.clone()));
            assert!(
                listed(&at, seq).is_subset(&listed(&from, seq)),
                "{target:?}"
            );
            let ended = |of: &analyzer::find::Moment| of.seq < seq;
            assert!(
                !from
                    .mappings()
                    .any(|mapping| mapping.until.as_ref().is_some_and(ended))
            );
        }
    }
    assert!(compared > 5, "{compared} mappings compared");
}
