//! Stretches of lost records that do not overlap: viewers draw one after the other.

/// A stretch in which records were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// From, to, ns.
    pub ns: [u64; 2],
    /// Records.
    pub records: u64,
}

/// In order of time; those that overlap or touch are one.
pub(super) fn apart(mut spans: Vec<Span>) -> Vec<Span> {
    for span in &mut spans {
        // Records are numbered when a change is made, and a fault's time is that of its start.
        span.ns.sort_unstable();
    }
    spans.sort_by_key(|span| span.ns);
    let mut apart: Vec<Span> = Vec::new();
    for span in spans {
        match apart.last_mut() {
            Some(last) if span.ns[0] <= last.ns[1] => {
                last.ns[1] = last.ns[1].max(span.ns[1]);
                last.records = last.records.saturating_add(span.records);
            }
            _ => apart.push(span),
        }
    }
    apart
}
