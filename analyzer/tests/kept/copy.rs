//! A recording whose rows are changed, and which the trace writer writes again.

use std::path::Path;

use events::{Class, Hpa, Level, PageEvent, Role, Seq};
use maker::{damage::all_rows, each_kind};
use serde_json::Value;
use trace::{Batch, FaultRow, PageRow, Trace, TraceWriter};

use crate::support::{analyzer, recording};

/// The exit code and the JSON of `audit`.
pub fn audit(path: &Path) -> (i32, Value) {
    let output = analyzer()
        .args(["audit", "--json"])
        .arg(path)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let json = serde_json::from_slice(&output.stdout);
    let json = json.unwrap_or_else(|_| panic!("no JSON: {error}"));
    (output.status.code().unwrap(), json)
}

/// What it says of one check.
pub fn of<'a>(json: &'a Value, check: &str) -> &'a Value {
    let checks = json["vms"][0]["checks"].as_array().unwrap();
    checks.iter().find(|of| of["check"] == check).unwrap()
}

/// A recording whose rows can be changed.
#[derive(Debug)]
pub struct Copy {
    pub meta: trace::Meta,
    pub rows: Batch,
}

impl Copy {
    pub fn of(name: &str) -> Self {
        Self::read(&recording(name))
    }

    pub fn read(path: &Path) -> Self {
        let trace = Trace::open(path).unwrap();
        let rows = all_rows(&trace).unwrap();
        let meta = trace.meta().clone();
        Self { meta, rows }
    }

    /// Makes room for a record just before the one of this number.
    pub fn make_room(&mut self, at: Seq) {
        each_kind!(&mut self.rows, rows => for row in rows.iter_mut() {
            if row.seq >= at {
                row.seq.0 += 1;
            }
        });
        if let Some(end) = &mut self.meta.end {
            end.records += 1;
        }
    }

    /// Takes a record out, so that no number is missing.
    pub fn take_out(&mut self, at: Seq) {
        each_kind!(&mut self.rows, rows => {
            rows.retain(|row| row.seq != at);
            for row in rows.iter_mut() {
                if row.seq > at {
                    row.seq.0 -= 1;
                }
            }
        });
        if let Some(end) = &mut self.meta.end {
            end.records -= 1;
        }
    }

    /// Audits it: the exit code and the JSON.
    pub fn audit(&self) -> (i32, Value) {
        self.with(audit)
    }

    /// Writes it for a moment.
    pub fn with<T>(&self, what: impl FnOnce(&Path) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.trace");
        let mut writer = TraceWriter::create(&path, &self.meta).unwrap();
        writer.write(&self.rows).unwrap();
        let mut meta = self.meta.clone();
        if let Some(end) = &mut meta.end {
            end.segments = writer.segments();
            end.rows = writer.rows();
        }
        writer.meta_file().write(&meta).unwrap();
        what(&path)
    }

    /// Expects a violation of a check at a record; gives it.
    #[track_caller]
    pub fn violates(&self, check: &str, seq: Seq) -> Value {
        let (code, json) = self.audit();
        assert_eq!(code, 1, "{json:#}");
        let found = of(&json, check)["violations"].as_array().unwrap().clone();
        let at = found.iter().find(|found| found["seq"] == seq.0);
        at.unwrap_or_else(|| panic!("{check} at {}: {found:#?}", seq.0))
            .clone()
    }

    /// A shadow fault with a leaf in a page that `fits`; its index in the rows.
    pub fn fault(&self, nth: usize, fits: impl Fn(&PageRow) -> bool) -> usize {
        let born = |spt: Hpa, before: Seq| {
            let of = |page: &&PageRow| page.spt == spt && page.seq < before;
            let pages = self.rows.pages.iter().filter(of);
            pages.max_by_key(|page| page.seq)
        };
        let is_one = |row: &FaultRow| {
            let Some(place) = row.sptep.filter(|_| row.class == Class::Shadow) else {
                return false;
            };
            let page = born(place.table(), row.seq);
            row.gpa.is_some() && page.is_some_and(&fits)
        };
        let faults = self.rows.faults.iter().enumerate();
        let mut found = faults.filter(|(_, row)| is_one(row));
        found.nth(nth).expect("such a fault").0
    }

    /// The page that shadows a guest table of this level.
    pub fn table(&self, level: u8) -> PageRow {
        let fits = |page: &&PageRow| {
            page.level == Level(level) && page.direct == 0 && page.event == PageEvent::Born
        };
        self.rows.pages.iter().find(fits).expect("a page").clone()
    }

    pub fn field(&self, name: &str) -> u8 {
        self.meta.role[name][0]
    }

    /// Sets a field of the role of some pages, in every row.
    pub fn set_role(&mut self, bit: u32, fits: impl Fn(Hpa) -> bool) {
        let set = |role: &mut Role| role.0 |= bit;
        let pages = self.rows.pages.iter_mut();
        pages
            .filter(|row| fits(row.spt))
            .for_each(|row| set(&mut row.role));
        let copies = self.rows.keyframes.iter_mut();
        copies
            .filter(|row| fits(row.spt))
            .for_each(|row| set(&mut row.role));
    }
}
