//! `analyzer sweep`.

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::{Failure, FormatArgs, output, progress::Progress, source};
use crate::{
    diff::Run,
    paper,
    study::Study,
    sweep::{self, Curves, Index},
    text::units::bytes,
};

/// Options of `sweep`.
#[derive(Debug, Args)]
pub struct SweepArgs {
    /// Folder that `collector sweep` wrote
    #[arg(value_name = "SWEEP")]
    folder: PathBuf,
    /// Also write an HTML page with curves
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
}

impl SweepArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let index = Index::read(&self.folder)?;
        let mut traces = Vec::new();
        for (number, point) in index.points.iter().enumerate() {
            for run in point.runs.iter().filter(|run| run.is_done()) {
                traces.push((number, source::open(&self.folder.join(&run.trace))?));
            }
        }
        let mut emulated = traces.iter().map(|(_, trace)| trace.meta().sees().emulated);
        let times = !emulated.any(|emulated| emulated);
        let mut curves = Curves::new(&self.folder, index, times);
        if let Some((_, trace)) = traces.first() {
            curves.differs = paper::differs(trace.meta());
        }
        let segments = traces.iter().flat_map(|(_, trace)| trace.segments());
        let mut progress = Progress::new(segments.map(|segment| segment.rows).sum());
        let mut done = 0;
        let mut damage = None;
        for (number, trace) in &traces {
            let mut at = |records| progress.at(done + records);
            let study = Study::with(trace, None, |_| Run::follow(&Arc::default()), &mut at)?;
            done += study.records;
            let run = Run::of(study);
            if let Some(why) = &run.damage {
                damage = damage.or(Some(format!("{}: {why}", trace.path().display())));
            } else if let Some(point) = curves.points.get_mut(*number) {
                let workload = trace.meta().workload.as_ref();
                let micro = workload.and_then(|workload| workload.micro.as_ref());
                point.add(&run, micro, times);
            }
        }
        drop(progress);
        self.format
            .print(&[], sweep::document(&curves), &sweep::json(&curves))?;
        if let Some(file) = &self.output {
            let html = sweep::html(&curves)?;
            fs::write(file, &html).with_context(|| format!("while writing {}", file.display()))?;
            if !self.format.is_for_programs() {
                let size = bytes(html.len() as u64);
                output::print(&format!("\n{}: {size}\n", file.display()))?;
            }
        }
        match damage {
            None => Ok(ExitCode::SUCCESS),
            Some(damage) => Err(anyhow!("{damage}; this run is left out"))?,
        }
    }
}
