//! `analyzer import`.

use std::{path::PathBuf, process::ExitCode};

use anyhow::anyhow;
use clap::Args;

use super::{Failure, output::print, program, word};
use crate::{
    import,
    text::units::{count, plural},
};

/// Options of `import`.
///
/// To record the text without eBPF, as root, with tracefs:
///
///   cd /sys/kernel/tracing; echo mono >trace_clock; echo 1 >options/record-tgid
///   echo 1 >events/kvmmmu/enable; echo 1 >events/kvm/enable; sleep 10; cat trace >kvm.txt
///
/// or with perf:
///
///   perf record -a -k mono -e 'kvmmmu:*,kvm:*' sleep 10
///   perf script -F comm,pid,tid,cpu,time,event,trace --ns >kvm.txt
///
/// A pipe is read, too: perf script ... | analyzer import - -o kvm.trace
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct ImportArgs {
    /// What perf script or tracefs (`trace`) printed; `-` is standard input
    #[arg(value_name = "TEXT")]
    text: PathBuf,
    /// Directory to create for the trace
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

impl ImportArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        if self.output.symlink_metadata().is_ok() {
            let error = anyhow!("{} exists already", self.output.display());
            return Err(Failure::usage(error).hint("choose another name with -o, or remove it"));
        }
        let name = |path: &PathBuf| path.to_string_lossy().into_owned();
        let command = vec![
            "analyzer".to_owned(),
            "import".to_owned(),
            name(&self.text),
            "-o".to_owned(),
            name(&self.output),
        ];
        let imported = import::import(&self.text, &self.output, command)
            .map_err(|error| Failure::from(anyhow::Error::from(error)))?;
        let events: u64 = imported.events.values().sum();
        print(&format!(
            "{}: {} of KVM in {} lines; {} without a known outcome left out\nnext: {} summary {}\n",
            self.output.display(),
            plural(events, "event"),
            count(imported.lines),
            plural(imported.unclassified, "fault"),
            program(),
            word(&self.output),
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
