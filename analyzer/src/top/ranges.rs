//! Granules of addresses to ranges.

use events::Gva;
use trace::Meta;

use super::Granule;
use crate::{faults::Sum, text::units::page_size};

/// Addresses from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// The first.
    pub(super) from: Gva,
    /// How many bytes; `None` for all there are.
    pub(super) bytes: Option<u64>,
    pub(super) sum: Sum,
}

/// Granules by number to ranges. Neighbours are joined, but not across the ends of `work`.
pub(super) fn ranges(
    granules: &[(u64, Sum)],
    granule: Granule,
    work: Option<[Gva; 2]>,
) -> Vec<Range> {
    let first = |number: u64| Gva(number.checked_shl(granule.shift).unwrap_or(0));
    let ends = work.map_or([None; 2], |ends| ends.map(Some));
    let mut ranges: Vec<Range> = Vec::new();
    let mut last = None;
    for (number, sum) in granules {
        let from = first(*number);
        let size = 1_u64.checked_shl(granule.shift);
        let neighbours = number.checked_sub(1).is_some_and(|one| last == Some(one));
        last = Some(*number);
        if granule.joined
            && neighbours
            && !ends.contains(&Some(from))
            && let Some(range) = ranges.last_mut()
        {
            range.sum.add(sum);
            range.bytes = range.bytes.zip(size).map(|(a, b)| a.saturating_add(b));
            continue;
        }
        ranges.push(Range {
            from,
            bytes: size,
            sum: *sum,
        });
    }
    ranges
}

impl Range {
    /// `0x8000000000 +2M`.
    pub(super) fn name(&self) -> String {
        match self.bytes {
            Some(length) => format!("{} +{}", self.from, page_size(length >> 12)),
            None => "all".to_owned(),
        }
    }

    /// What is there, as far as it is known: the workload's range, the memslots of its faults.
    pub(super) fn place(&self, work: Option<[Gva; 2]>) -> String {
        let [from, to] = [
            self.from.0,
            self.from.0.saturating_add(self.bytes.unwrap_or(u64::MAX)),
        ];
        let work = work.and_then(|[first, end]| {
            if first.0 <= from && to <= end.0 {
                Some("workload")
            } else if from < end.0 && first.0 < to {
                Some("partly workload")
            } else {
                None
            }
        });
        let slots = self.sum.slots.map(|[low, high]| match low == high {
            true => format!("slot {}", low.0),
            false => format!("slots {} to {}", low.0, high.0),
        });
        let words = [work.map(str::to_owned), slots];
        words.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// The range that the workload works on, whole granules of it, if the recording has one.
pub(super) fn work(meta: &Meta, granule: Granule) -> Option<[Gva; 2]> {
    let workload = meta.workload.as_ref()?;
    if workload.range_pages == 0 {
        return None;
    }
    let end = workload.range_pages.checked_mul(4096)?;
    let end = end.checked_add(workload.range_gva)?;
    let size = 1_u64.checked_shl(granule.shift)?;
    let from = workload.range_gva & !(size - 1);
    Some([Gva(from), Gva(end.checked_next_multiple_of(size)?)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_range_but_for_the_ends_of_the_work() {
        let one = Sum::of_fault(&crate::replay::blank_fault(events::Seq(0)));
        let granules: Vec<_> = [0, 1, 4, 5, 6, 7, 9].map(|number| (number, one)).into();
        let work = Some([Gva(5 << 21), Gva(7 << 21)]);
        let of = |granule| {
            let ranges = ranges(&granules, granule, work);
            let all = ranges.iter().map(|range| {
                let bytes = range.bytes.unwrap_or(0);
                (
                    range.from.0 >> 21,
                    bytes >> 21,
                    range.sum.count,
                    range.place(work),
                )
            });
            all.collect::<Vec<_>>()
        };
        let row = |from, size, place: &str| (from, size, size, place.to_owned());
        let joined = [
            row(0, 2, ""),
            row(4, 1, ""),
            row(5, 2, "workload"),
            row(7, 1, ""),
            row(9, 1, ""),
        ];
        assert_eq!(of(Granule::default()), joined);
        let apart = Granule {
            joined: false,
            ..Granule::default()
        };
        assert_eq!(of(apart).len(), granules.len());
    }
}
