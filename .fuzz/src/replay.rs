//! Records in any order, with any values, to replay and to every analysis that follows it.

use analyzer::{
    audit::Audit,
    memory::{Growth, Owners},
    pathologies::Pathologies,
    playback::Playback,
    refaults::{Options, Refaults},
    replay::{Replay, ReplayOptions},
    study::{Follow, Subject, VmStudy},
};
use events::{Gva, RoleLayout, VmId};
use trace::{Batch, KeyframePage, Meta, Record, Sees, Stores, VmMeta};

/// Bytes of a stream of a report, at most.
const STREAM: usize = 1 << 20;

/// Where a role has its fields, as on the kernels that are tested.
pub const LAYOUT: RoleLayout = RoleLayout {
    level: [0, 4],
    direct: [8, 1],
    access: [9, 3],
    invalid: [12, 1],
    four_bytes: [4, 1],
    quadrant: [5, 2],
};

/// What a recording sees: one bit of a number for each.
fn sees(flags: u8) -> Sees {
    let is = |bit: u8| flags >> bit & 1 != 0;
    Sees {
        every_change: is(0),
        from_birth: is(1),
        emulated: is(2),
        acts: is(3),
        keyframe_roots: is(4),
        stores: match is(5) {
            true => Stores::All,
            false => Stores::ToTables,
        },
    }
}

fn meta(flags: u8) -> Meta {
    let role = [
        ("level", LAYOUT.level),
        ("direct", LAYOUT.direct),
        ("access", LAYOUT.access),
        ("invalid", LAYOUT.invalid),
    ];
    Meta {
        schema: trace::SCHEMA_VERSION,
        role: role.map(|(name, place)| (name.to_owned(), place)).into(),
        sees: Some(sees(flags)),
        vms: vec![VmMeta::default()],
        ..Meta::default()
    }
}

/// The first byte says what the recording sees; the others are a piece of the ring.
pub fn replay(bytes: &[u8]) {
    let Some((flags, bytes)) = bytes.split_first() else {
        return;
    };
    let meta = meta(*flags);
    let mut records = Vec::new();
    collector::fuzz::ring(bytes, &LAYOUT, |rows| records.extend(record(rows)));
    follow(&meta, &records);
}

/// The record of these rows.
fn record(mut rows: Batch) -> Option<Record> {
    if !rows.keyframes.is_empty() {
        return keyframe(&rows).map(Record::Keyframe);
    }
    None.or(rows.faults.pop().map(Record::Fault))
        .or(rows.entries.pop().map(Record::Entry))
        .or(rows.pages.pop().map(Record::Page))
        .or(rows.roots.pop().map(Record::Root))
        .or(rows.marks.pop().map(Record::Mark))
        .or(rows.writes.pop().map(Record::Write))
        .or(rows.host.pop().map(Record::Host))
        .or(rows.acts.pop().map(Record::Act))
}

fn keyframe(rows: &Batch) -> Option<KeyframePage> {
    let head = rows.keyframes.first()?;
    let mut page = KeyframePage {
        seq: head.seq,
        time_ns: head.time_ns,
        vm: head.vm,
        keyframe: head.keyframe,
        spt: head.spt,
        gfn: head.gfn,
        role: head.role,
        level: head.level,
        direct: head.direct != 0,
        unsync: head.unsync != 0,
        root_count: head.root_count,
        entries: Vec::new(),
        gfns: Vec::new(),
    };
    for row in &rows.keyframes {
        page.entries.extend(row.index.zip(row.spte));
        page.gfns.extend(row.index.zip(row.leaf_gfn));
    }
    Some(page)
}

/// Follows the VM of the first record; replays all.
fn follow(meta: &Meta, records: &[Record]) {
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        return;
    };
    let vm = first.vm();
    let subject = Subject {
        vm,
        recording: meta,
        meta: meta.vms.first().filter(|_| vm == VmId(0)),
        span_ns: [first.time().0, last.time().0],
    };
    let options = ReplayOptions {
        role: meta.role_layout(),
        from_birth: meta.sees().from_birth,
        sees_every_change: meta.sees().every_change,
        keyframe_roots: meta.sees().keyframe_roots,
    };
    let mut replay = Replay::new(options);
    let tables = (VmStudy::new(&subject), Audit::new(&subject));
    let costs = (
        Refaults::new(&subject, Options::default()),
        Pathologies::new(&subject),
    );
    let memory = (Growth::new(&subject), Owners::new(&subject));
    let playback = Playback::new(&subject, records.len() as u64, STREAM);
    let mut all = ((tables, costs), (memory, playback));
    for record in records {
        let follows = record.vm() == vm;
        if follows {
            all.before(record, replay.vm(vm));
        }
        replay.apply(record);
        if follows {
            all.after(record, replay.vm(vm));
        }
    }
    // It fails where a sum of times does not fit.
    _ = all.finish(replay.vm(vm), meta.sees());
    for (_, of) in replay.vms() {
        for root in of.table_roots().all().into_iter().take(8) {
            for gva in [0, 0x80_0000_1000, u64::MAX] {
                _ = of.walk(root, Gva(gva));
            }
        }
    }
}
