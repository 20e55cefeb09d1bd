//! Some emulators get shadow paging wrong. Our own guests check every page that they touch, so a
//! few of them, unrecorded, show it before anything is recorded that would only look like KVM.

use super::command::collector;
use crate::lab::job::Trouble;

/// How often each guest runs: the errors that were seen do not come every time.
const ROUNDS: usize = 3;
/// Large enough for several tables of each level below the top.
const PAGES: &str = "pages=2000";
/// A guest is done within a second; one that was led astray may never be.
const LIMIT_SECONDS: &str = "60";

/// Runs them.
pub fn run() -> Result<(), Trouble> {
    for round in 1..=ROUNDS {
        for workload in ["linear", "demand"] {
            let words = ["run", workload, "--untraced", "-p", PAGES, "--timeout"];
            let output = collector(&[&words[..], &[LIMIT_SECONDS]].concat())
                .output()
                .map_err(|error| Trouble::Other(format!("while testing the emulator: {error}")))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                // The registers that follow are of no use to anybody here.
                let said = said.lines().next().unwrap_or("it said nothing");
                let what = format!(
                    "the guest '{workload}' failed in round {round} of {ROUNDS} ({}): {said}",
                    output.status
                );
                // A guest that goes wrong is code 1; anything else is no word of the guest's.
                return Err(match output.status.code() {
                    Some(1) => Trouble::Emulator(what),
                    _ => Trouble::Other(what),
                });
            }
        }
    }
    Ok(())
}
