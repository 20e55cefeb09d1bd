//! `analyzer export`.

use std::{
    fs::File,
    io::{self, BufWriter, ErrorKind},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use trace::Trace;

use super::{Failure, Source, filter::FaultArgs, listed, output, source, symbols::SymbolsArgs};
use crate::{
    export::{
        ExportError, Exporter, Firefox, Form, Kind, Output, Perfetto, Rows, Sink, write_kind,
    },
    listing::{FaultFilter, Window},
    table::Moment,
    text::units::{bytes, plural},
    verdict,
};

/// Options of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    source: Source,
    /// For which tool
    #[arg(long, value_name = "FORMAT")]
    to: To,
    /// File to write [default for csv and jsonl: standard output]
    #[arg(short, long, value_name = "FILE")]
    #[arg(required_if_eq_any([("to", "perfetto"), ("to", "firefox")]))]
    output: Option<PathBuf>,
    /// Which records, for csv and jsonl; the others have all that they show
    #[arg(long, value_name = "KIND", default_value = "faults")]
    what: Kind,
    #[command(flatten)]
    faults: FaultArgs,
    /// From this moment on: seconds from the start (1.25s, 30ms), ns on the trace's clock,
    /// `phase:NAME`, `fault:N` or `seq:N`
    #[arg(long, value_name = "T")]
    from: Option<Moment>,
    /// Up to this moment
    #[arg(long, value_name = "T")]
    until: Option<Moment>,
    #[command(flatten)]
    symbols: SymbolsArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum To {
    /// Tracks, slices, counters and arrows; opens at ui.perfetto.dev
    Perfetto,
    /// A profile for profiler.firefox.com: markers, and a call tree of where the time went
    Firefox,
    /// One line a record, with the columns of the trace
    Csv,
    /// One object a line, likewise
    Jsonl,
}

impl To {
    fn rows(self) -> Option<Form> {
        match self {
            Self::Csv => Some(Form::Csv),
            Self::Jsonl => Some(Form::Jsonl),
            Self::Perfetto | Self::Firefox => None,
        }
    }
}

impl ExportArgs {
    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open()?;
        let window = Window::new(self.from.as_ref(), self.until.as_ref(), &trace)?;
        let filter = self.faults.within(window);
        let symbols = self.symbols.read(&trace)?;
        if self.what != Kind::Faults {
            return self.kind(&trace, &filter);
        }
        let to = self.create()?;
        let path = &self.source.trace;
        match self.to {
            To::Perfetto => {
                let sink = Perfetto::new(to, trace.meta(), &symbols).map_err(|e| self.failed(e))?;
                self.follow(&trace, &filter, sink)
            }
            To::Firefox => {
                let sink = Firefox::new(to, path, trace.meta(), &symbols);
                self.follow(&trace, &filter, sink)
            }
            To::Csv | To::Jsonl => {
                let form = self.to.rows().unwrap_or(Form::Jsonl);
                let sink = Rows::of_faults(to, form).map_err(|e| self.failed(e))?;
                self.follow(&trace, &filter, sink)
            }
        }
    }

    /// Records of one kind, without what only the analyzer knows.
    fn kind(&self, trace: &Trace, filter: &FaultFilter) -> Result<ExitCode, Failure> {
        let Some(form) = self.to.rows() else {
            return Err(Failure::usage(anyhow!("--what is for csv and jsonl")));
        };
        if filter.is_about_faults() || !filter.window.is_whole() {
            let error = anyhow!("--class, --gva, --cr3, --vcpu, --from and --until choose faults");
            return Err(Failure::usage(error).hint("leave --what out, or these"));
        }
        let only = self
            .source
            .vm
            .map(|_| self.source.one_vm(trace))
            .transpose()?;
        match write_kind(trace, self.what, only, self.create()?, form) {
            Ok(rows) => self.written(&plural(rows, "row"))?,
            Err(error) => return self.broken(error).map(|()| ExitCode::SUCCESS),
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Faults, and what a sink makes of the other records.
    fn follow<S: Sink>(
        &self,
        trace: &Trace,
        filter: &FaultFilter,
        sink: S,
    ) -> Result<ExitCode, Failure> {
        let shares = Exporter::sharing(sink);
        let study = source::follow(trace, self.source.vm, |vm| shares.exporter(vm, filter))?;
        listed::came(&study, Exporter::missing)?;
        match shares.finish(trace, &study) {
            Ok(faults) => self.written(&plural(faults, "fault"))?,
            Err(error) => self.broken(error)?,
        }
        if self.output.is_some() {
            let lines = verdict::cautions(trace, &study);
            output::print(&output::lines(&lines))?;
        }
        source::ended(&study)
    }

    fn create(&self) -> Result<Output, Failure> {
        let Some(path) = &self.output else {
            return Ok(Box::new(BufWriter::new(io::stdout())));
        };
        match File::create(path) {
            Ok(file) => Ok(Box::new(BufWriter::with_capacity(1 << 16, file))),
            Err(error) => Err(self.failed(error.into())),
        }
    }

    /// Says what was written, where it is not on standard output.
    fn written(&self, what: &str) -> Result<(), Failure> {
        let Some(path) = &self.output else {
            return Ok(());
        };
        // A pipe or a device has no size.
        let size = path.metadata().map_or(0, |data| data.len());
        let opens = match self.to {
            To::Perfetto => "; open it at https://ui.perfetto.dev",
            To::Firefox => "; open it at https://profiler.firefox.com",
            To::Csv | To::Jsonl => "",
        };
        output::print(&format!(
            "{}: {what}, {}{opens}\n",
            path.display(),
            bytes(size)
        ))
    }

    /// A reader of standard output that has seen enough (`| head`) is no error.
    fn broken(&self, error: ExportError) -> Result<(), Failure> {
        let kind = match &error {
            ExportError::Write(error) => Some(error.kind()),
            ExportError::Json(error) => error.io_error_kind(),
            _ => None,
        };
        match kind {
            Some(ErrorKind::BrokenPipe) if self.output.is_none() => Ok(()),
            _ => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: ExportError) -> Failure {
        let many = matches!(
            error,
            ExportError::TooManyFaults | ExportError::TooManyThreads | ExportError::TooLong { .. }
        );
        let file = self
            .output
            .as_deref()
            .unwrap_or(Path::new("standard output"));
        let folder = self.output.as_deref().and_then(Path::parent);
        let folder = folder.filter(|folder| *folder != Path::new("") && !folder.exists());
        let error = anyhow::Error::new(error).context(format!("while writing {}", file.display()));
        let failure = Failure::from(error);
        match folder {
            Some(folder) => failure.hint(format!("there is no folder {}", folder.display())),
            None if many => failure.hint("choose some with --vm, --from, --until or --class"),
            None => failure,
        }
    }
}
