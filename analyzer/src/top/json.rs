//! Who pays, for programs.

use serde_json::{Value, json};

use super::{Payer, Rank};
use crate::faults::{Seen, Sum};

/// A VM's payers, the first `top` of them. Times are ns; moments from the start of the trace.
pub fn json(rank: &Rank, top: usize, start_ns: u64) -> Value {
    let payer = |payer: &Payer| {
        let mut of = sum(&payer.sum, &rank.all, start_ns);
        if let Value::Object(of) = &mut of {
            of.insert("key".to_owned(), json!(payer.key));
            of.insert("name".to_owned(), json!(payer.name));
            of.insert("about".to_owned(), json!(payer.about));
            if let Some(table) = &payer.table {
                of.insert("table".to_owned(), json!(table));
            }
        }
        of
    };
    let payers: Vec<_> = rank.payers.iter().take(top).map(payer).collect();
    let mut rest = Sum::default();
    for payer in rank.payers.iter().skip(top) {
        rest.add(&payer.sum);
    }
    let sum = |of| sum(of, &rank.all, start_ns);
    json!({
        "by": rank.by.name(), "keys": rank.payers.len(), "payers": payers,
        "rest": sum(&rest), "without_key": sum(&rank.keyless), "others": sum(&rank.others), "all": sum(&rank.all),
    })
}

fn sum(of: &Sum, all: &Sum, start_ns: u64) -> Value {
    let seen = of.seen.map(|seen| {
        seen.map(|Seen { seq, time_ns }| {
            json!({"seq": seq, "at_ns": time_ns.0.saturating_sub(start_ns)})
        })
    });
    let [first, last] = seen.unwrap_or_default();
    let share = of.own_ns() as f64 * 100.0 / all.own_ns().max(1) as f64;
    let slots = of
        .slots
        .map(|[lowest, highest]| json!({"lowest": lowest, "highest": highest}));
    json!({
        "count": of.count, "total_ns": of.total_ns, "switched_out_ns": of.switched_out_ns,
        "share_percent": share, "worst": of.worst,
        "first": first, "last": last, "classes": of.classes(), "slots": slots,
    })
}
