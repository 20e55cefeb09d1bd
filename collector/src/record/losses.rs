//! What the probes lost since the last look, as rows of the trace.

use events::{Loss, Probe, Seq, TimeNs, VmId};
use trace::LossRow;

/// Remembers what was reported.
#[derive(Debug, Default)]
pub struct LossLog {
    reported: [Loss; Probe::ALL.len()],
}

impl LossLog {
    /// Rows for what is new in `counts`; `seq` is the number that the next record gets.
    pub fn update(&mut self, counts: &[(Probe, Loss)], seq: Seq) -> Vec<LossRow> {
        let mut rows = Vec::new();
        for &(probe, loss) in counts {
            let Some(reported) = self.reported.get_mut(probe as usize) else {
                continue;
            };
            let count = loss.count.saturating_sub(reported.count);
            if count == 0 {
                continue;
            }
            // The kernel keeps the very first and the latest; between two looks the first new
            // one came after the latest that was reported.
            let from = if reported.count == 0 {
                loss.first
            } else {
                reported.last
            };
            *reported = loss;
            rows.push(LossRow {
                seq,
                time_ns: TimeNs(loss.last),
                vm: VmId(0),
                vcpu: None,
                probe: probe.name().to_owned(),
                count,
                from_ns: TimeNs(from),
            });
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_reported() {
        let mut log = LossLog::default();
        let first = [(
            Probe::Fault,
            Loss {
                count: 3,
                first: 10,
                last: 20,
            },
        )];
        let rows = log.update(&first, Seq(7));
        assert_eq!(
            (rows[0].count, rows[0].from_ns.0, rows[0].time_ns.0),
            (3, 10, 20)
        );
        assert!(log.update(&first, Seq(8)).is_empty());
        let second = [(
            Probe::Fault,
            Loss {
                count: 5,
                first: 10,
                last: 40,
            },
        )];
        let rows = log.update(&second, Seq(9));
        assert_eq!(
            (rows[0].count, rows[0].from_ns.0, rows[0].time_ns.0),
            (2, 20, 40)
        );
    }
}
