//! Checks that the emulator executes shadow paging correctly; some do not. The built-in guests
//! check every page that they touch, so a few unrecorded runs show an error before a trace records
//! it.

use super::command::collector;
use crate::lab::job::{Job, Trouble};

/// Runs of each guest: the known errors do not occur every time.
const ROUNDS: usize = 3;
/// Enough for several tables of each level below the root.
const PAGES: &str = "pages=2000";
/// Shortest limit of a guest, seconds. It needs less than one on a fast machine; after an emulation
/// error it may never end.
const LIMIT_S: u64 = 60;

/// Runs them.
pub fn run(job: &Job) -> Result<(), Trouble> {
    // A lab with more time is on a slower machine. All of it is not for one guest: then the lab
    // would end before it could say which.
    let limit = LIMIT_S.max(job.limit_s / 4).to_string();
    for round in 1..=ROUNDS {
        for workload in ["linear", "demand"] {
            let words = ["run", workload, "--untraced", "-p", PAGES, "--timeout"];
            let output = collector(job, &[&words[..], &[limit.as_str()]].concat())
                .output()
                .map_err(|error| Trouble::Other(format!("while testing the emulator: {error}")))?;
            if !output.status.success() {
                let error = String::from_utf8_lossy(&output.stderr);
                // Without the registers that follow.
                let error = error.lines().next().unwrap_or("it printed no error");
                let what = format!(
                    "the guest '{workload}' failed in round {round} of {ROUNDS} ({}): {error}",
                    output.status
                );
                // 1: the guest failed. Another code does not come from the guest.
                return Err(match output.status.code() {
                    Some(1) => Trouble::Emulator(what),
                    _ => Trouble::Other(what),
                });
            }
        }
    }
    Ok(())
}
