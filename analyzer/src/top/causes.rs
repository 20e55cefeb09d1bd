//! Faults by what made them necessary: refaults by what had removed the entry, the others by why
//! they are none.

use std::cmp::Reverse;

use super::{By, Payer, Rank};
use crate::{
    faults::Sum,
    refaults::{Other, RefaultCause, Refaults},
};

/// The causes in order.
pub(super) fn rank(refaults: &Refaults) -> Rank {
    let payer = |name: &str, about: &str, sum: &Sum| Payer {
        key: name.to_owned(),
        name: name.to_owned(),
        about: about.to_owned(),
        sum: *sum,
        table: None,
    };
    let causes = RefaultCause::ALL.into_iter().filter_map(|cause| {
        let sum = refaults.cause(cause)?;
        Some(payer(cause.name(), cause.meaning(), sum))
    });
    let others = Other::ALL.into_iter();
    let others = others.filter(|other| *other != Other::NeedsNone);
    let others = others.map(|other| payer(other.name(), other.meaning(), refaults.other(other)));
    let mut payers: Vec<_> = causes.chain(others).collect();
    payers.retain(|payer| payer.sum.count > 0);
    payers.sort_by_key(|payer| Reverse((payer.sum.own_ns(), payer.sum.count)));
    let keyless = *refaults.other(Other::NeedsNone);
    let mut all = keyless;
    for payer in &payers {
        all.add(&payer.sum);
    }
    Rank {
        by: By::Cause,
        payers,
        keyless,
        keys: usize::MAX,
        others: Sum::default(),
        other_tables: None,
        all,
        has_symbols: false,
        follows_tables: false,
    }
}
