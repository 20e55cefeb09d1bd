//! `analyzer report`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};

use super::{Failure, output, source, symbols::SymbolsArgs};
use crate::{
    diff::{Run, Side},
    listing::{FaultFilter, Faults, Sort},
    memory::Owners,
    playback::Playback,
    report::{self, Beside, Page},
    study::{Subject, VmStudy},
    text::{plain, units::bytes},
};

/// Faults that took longest, on the page.
const WORST: usize = 10;

/// Options of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Folders that `collector` wrote; each gets its part of the page
    #[arg(value_name = "TRACE", required = true)]
    traces: Vec<PathBuf>,
    /// Only this VM of each, by its number in the trace
    #[arg(long, value_name = "N")]
    vm: Option<u16>,
    #[command(flatten)]
    symbols: SymbolsArgs,
    /// File to write
    #[arg(short, long, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// Bytes of changes of tables on the page, before compression; what is past them is sampled
    #[arg(long, value_name = "BYTES", default_value_t = report::STEPS)]
    moments: usize,
    /// Show the page in the desktop's browser
    #[arg(long)]
    open: bool,
    /// Also write each figure into this folder, as SVG and as PNG
    #[arg(long, value_name = "DIR")]
    figures: Option<PathBuf>,
    /// Form of the output; all but html are printed, and no page is written
    #[arg(long, value_name = "FORMAT", default_value = "html")]
    format: Form,
    /// The same as --format json
    #[arg(long, conflicts_with_all = ["output", "open", "format"])]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A page for a browser
    Html,
    /// Sections and tables for an issue or a paper
    Markdown,
    /// What the page says, for programs
    Json,
}

impl ReportArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let mut traces = Vec::new();
        let mut sides = Vec::new();
        let mut ended = Ok(ExitCode::SUCCESS);
        for path in &self.traces {
            let trace = source::open(path)?;
            source::check_tables(&trace)?;
            let symbols = self.symbols.read(&trace)?;
            let records = trace.listed_rows();
            let vms = match self.vm {
                Some(_) => 1,
                None => trace.meta().vms.len().max(1),
            };
            let most = self.moments / vms.saturating_mul(self.traces.len());
            let whole = |vm: &Subject<'_>| {
                let mut of = VmStudy::whole(vm, &symbols);
                of.worst = Some(Faults::new(FaultFilter::default(), Sort::Total, WORST));
                of.owners = Some(Owners::new(vm));
                // Those that only records name have no share of the bytes.
                of.playback = vm.meta.map(|_| Playback::new(vm, records, most));
                of
            };
            let study = source::follow(&trace, self.vm, whole)?;
            traces.push(report::section(&trace, &study, &symbols)?);
            ended = ended.and(source::ended(&study));
            if self.traces.len() > 1 {
                drop(study);
                let run = source::follow(&trace, self.vm, |_| Run::follow(&symbols))?;
                let runs = vec![Run::of(run)];
                sides.push(Side {
                    traces: vec![trace],
                    runs,
                });
            }
        }
        let names: Vec<_> = traces.iter().map(|trace| trace.name.clone()).collect();
        // Of one name, the folders differ.
        let named = self.traces.iter().zip(&names).map(|(path, name)| {
            match names.iter().filter(|other| *other == name).count() {
                1 => name.clone(),
                _ => plain(&path.display().to_string()),
            }
        });
        let sides: Vec<_> = named.zip(sides).collect();
        let page = Page {
            beside: Beside::of(&sides)?,
            title: format!("{} - Shadowscope", names.join(", ")),
            traces,
            made_by: concat!("analyzer ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        if let Some(folder) = &self.figures {
            write_figures(folder, &page)?;
        }
        match self.format {
            form if self.json || form == Form::Json => {
                output::print_json(&page)?;
                return ended;
            }
            Form::Markdown => {
                output::print(&report::document(page).markdown())?;
                return ended;
            }
            Form::Html | Form::Json => {}
        }
        let html = report::html(&page)?;
        let file = self.output.display();
        fs::write(&self.output, &html).map_err(|error| self.not_written(error))?;
        let size = bytes(html.len() as u64);
        output::print(&format!("{file}: {size}, opens in any browser\n"))?;
        if self.open {
            self.show()?;
        }
        ended
    }

    /// Gives the page to the desktop's browser.
    fn show(&self) -> Result<(), Failure> {
        let opened = Command::new("xdg-open").arg(&self.output).status();
        let file = self.output.display();
        match opened {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => {
                let failure = Failure::from(anyhow!("xdg-open {file} ended with {status}"));
                Err(failure.hint("the page is written: open it in a browser"))
            }
            Err(error) => {
                let what = format!("while running xdg-open {file}");
                let failure = Failure::from(anyhow::Error::new(error).context(what));
                Err(failure.hint("the page is written: open it in a browser"))
            }
        }
    }

    fn not_written(&self, error: io::Error) -> Failure {
        let folder = self.output.parent().filter(|folder| !folder.exists());
        let what = format!("while writing {}", self.output.display());
        let failure = Failure::from(anyhow::Error::new(error).context(what));
        match folder {
            Some(folder) => failure.hint(format!("there is no folder {}", folder.display())),
            None => failure,
        }
    }
}

/// Two files for each figure: `TRACE-vm-0-rates.svg` and `.png`.
fn write_figures(folder: &Path, page: &Page) -> Result<(), Failure> {
    let context = |path: &Path| format!("while writing {}", path.display());
    fs::create_dir_all(folder).with_context(|| context(folder))?;
    for (number, trace) in page.traces.iter().enumerate() {
        // Two traces of one name are two files.
        let number = match page.traces.len() {
            1 => String::new(),
            _ => format!("{}-", number + 1),
        };
        for section in &trace.sections {
            for figure in &section.figures {
                let name = format!("{number}{}-{}-{}", trace.name, section.id, figure.name);
                let name = name.replace('/', "_");
                let drawn = figure.drawing.png().context("while drawing a PNG")?;
                for (end, bytes) in [("svg", figure.svg.as_bytes()), ("png", &drawn)] {
                    let path = folder.join(format!("{name}.{end}"));
                    fs::write(&path, bytes).with_context(|| context(&path))?;
                }
            }
        }
    }
    Ok(())
}
