//! What one recording says of each step.

use events::{Class, VmId};
use serde_json::Value;
use trace::Trace;

use crate::{
    explain::{self, ExplainError, Explanation, Selector},
    text::plain,
};

/// Why there is no lesson.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LessonError {
    /// No such fault, or the trace could not be read.
    #[error(transparent)]
    Explain(#[from] ExplainError),
    /// What was asked for is no fault.
    #[error("record {0} is no fault: the lesson is about one")]
    NoFault(u64),
    /// The facts could not be taken apart.
    #[error("while taking the facts of a fault apart: {0}")]
    Facts(#[from] serde_json::Error),
}

/// One guest, and the fault that the lesson is about.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Name of the recording.
    pub name: String,
    /// Which fault, in one line.
    pub about: String,
    /// Entries that the walker read, from the root on.
    pub guest: Vec<Row>,
    /// The shadow entries on the same way.
    pub shadow: Vec<Row>,
    /// Address and frame of each space: GVA, GPA, HVA, HPA; absent where the fault got none.
    pub chain: Vec<(&'static str, Option<String>)>,
    /// What KVM did in each of the five steps, as text.
    pub did: [String; 5],
}

/// An entry of a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// Level of the table.
    pub level: u64,
    /// Its address.
    pub table: String,
    /// Which entry.
    pub index: u64,
    /// The entry.
    pub entry: String,
    /// The step, from 1, that changes it; 0 for none.
    pub step: u8,
}

/// Shadow faults that are looked at for one whose leaf entry the guest has just stored.
const TRIED: u64 = 64;
/// Columns of a text: with fewer, the two tables of the first step are one below the other.
const WIDTH: usize = 100;

/// The shadow fault for the lesson: the first whose leaf entry a record shows the guest's store to;
/// without one, the first that is the workload's own work.
pub fn choose(trace: &Trace, vm: VmId) -> Result<Explanation, LessonError> {
    for nth in 0..TRIED {
        let selector = Selector::Class(Class::Shadow, Some(nth));
        let found = match explain::find(trace, vm, selector, &mut |_| {}) {
            Ok(found) => found,
            Err(ExplainError::NoSuch { .. }) => break,
            Err(error) => return Err(error.into()),
        };
        if stored_leaf(&found.json()?) {
            return Ok(found);
        }
    }
    let selector = Selector::Class(Class::Shadow, None);
    Ok(explain::find(trace, vm, selector, &mut |_| {})?)
}

fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
    of.get(key)
        .and_then(Value::as_array)
        .map_or(&[], |list| list)
}

fn text(of: &Value, key: &str) -> Option<String> {
    of.get(key)?.as_str().map(plain)
}

fn number(of: &Value, key: &str) -> u64 {
    of.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn stored_leaf(facts: &Value) -> bool {
    let stores = list(facts, "entries_stored").iter();
    stores
        .map(|store| number(store, "level"))
        .any(|level| level == 1)
}

impl Guest {
    /// From the explanation of a fault.
    pub fn of(name: &str, found: &Explanation, seq: u64) -> Result<Self, LessonError> {
        let Explanation::Fault(_) = found else {
            return Err(LessonError::NoFault(seq));
        };
        let facts = found.json()?;
        let stored: Vec<u64> = list(&facts, "entries_stored")
            .iter()
            .map(|store| number(store, "level"))
            .collect();
        let made = number(&facts, "created");
        let leaf = number(&facts, "level");
        let full = found.text(WIDTH);
        let [first, second, third, fourth, fifth] = parts(&full);
        let took = full
            .lines()
            .find(|line| line.trim_start().starts_with("took "));
        let third = format!("{third}{}\n", took.unwrap_or_default().trim_start());
        let did = [first_step(&stored, &first), second, third, fourth, fifth];
        // The others were stored for a fault before.
        let lowest = stored.iter().min().copied();
        let step = |level: u64| u8::from(lowest == Some(level));
        let written = |level: u64| match level == leaf || level <= leaf + made {
            true => 4,
            false => 0,
        };
        Ok(Self {
            name: plain(name),
            about: full.lines().next().map(plain).unwrap_or_default(),
            guest: rows(list(&facts, "guest_walk"), ["table_gpa", "gpte"], step),
            shadow: rows(list(&facts, "shadow_walk"), ["spt", "spte"], written),
            chain: [
                ("GVA", "gva"),
                ("GPA", "gpa"),
                ("HVA", "hva"),
                ("HPA", "hpa"),
            ]
            .map(|(space, key)| (space, text(&facts, key)))
            .to_vec(),
            did,
        })
    }

    /// What KVM did in a step, from 1.
    pub fn did_in(&self, step: &u8) -> &str {
        let at = usize::from(*step).checked_sub(1);
        at.and_then(|at| self.did.get(at)).map_or("", |did| did)
    }

    /// Where the address is known after a step: how many of [`Guest::chain`].
    pub fn known(&self, step: &u8) -> usize {
        match step {
            1 => 2,
            2 => 3,
            _ => 4,
        }
    }
}

fn rows(steps: &[Value], [table, entry]: [&str; 2], of: impl Fn(u64) -> u8) -> Vec<Row> {
    let row = |step: &Value| {
        let level = number(step, "level");
        Some(Row {
            level,
            table: text(step, table)?,
            index: number(step, "index"),
            entry: text(step, entry)?,
            step: of(level),
        })
    };
    steps.iter().filter_map(row).collect()
}

/// The lines below each heading of `explain`'s text.
fn parts(text: &str) -> [String; 5] {
    let mut parts: [String; 5] = Default::default();
    let mut at: Option<usize> = None;
    for line in text.lines() {
        let heading = line
            .split_once("  ")
            .and_then(|(number, _)| number.parse().ok());
        if let Some(step @ 1..=5) = heading {
            at = Some(step - 1);
            continue;
        }
        // The legend of the bits ends the fifth.
        let is_within = line.starts_with(' ');
        match at.and_then(|at| parts.get_mut(at)).filter(|_| is_within) {
            Some(part) => *part += &format!("{}\n", line.strip_prefix("   ").unwrap_or(line)),
            None if line.is_empty() => {}
            None => at = None,
        }
    }
    parts
}

/// Whether the store that makes the entry was seen, above what `explain` says of it.
fn first_step(stored: &[u64], said: &str) -> String {
    let leaf = match stored.contains(&1) {
        true => "KVM emulated the guest's store to the leaf entry.",
        false => {
            "No record shows the guest's store to the leaf entry: a store to a table that KVM does \
             not shadow, or that is unsync, does not exit."
        }
    };
    // The entries themselves are in the tables beside.
    let rest = said
        .lines()
        .skip_while(|line| !line.starts_with("the guest's level"));
    let rest: Vec<_> = rest.collect();
    format!("{leaf}\n{}", rest.join("\n"))
}
