//! `analyzer top`.

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;
use serde_json::json;

use super::{
    Failure, FormatArgs, Source, filter::FilterArgs, listed, source, symbols::SymbolsArgs,
};
use crate::{
    summary,
    text::{Document, Section, units::page_size},
    top::{self, By, Granule, Payers, Question, Rank},
    verdict,
};

/// Options of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    #[command(flatten)]
    source: Source,
    /// By what faults are added up
    #[arg(long, value_name = "KEY")]
    by: By,
    /// How many are shown
    #[arg(long, value_name = "N", default_value = "20")]
    top: u32,
    #[command(flatten)]
    filter: FilterArgs,
    /// With --by gva-range: pieces of this size (4K to 512G), each for itself [default: pieces of
    /// 2M, neighbours together]
    #[arg(long, value_name = "SIZE", value_parser = granule)]
    granule: Option<Granule>,
    #[command(flatten)]
    symbols: SymbolsArgs,
    #[command(flatten)]
    format: FormatArgs,
}

/// A power of two of pages: `4K`, `64K`, `2M`, `1G`.
fn granule(text: &str) -> Result<Granule, String> {
    let refused = || "a power of two from 4K to 512G, like 64K, 2M or 1G".to_owned();
    let unit = text.chars().next_back().ok_or_else(refused)?;
    let shift = match unit.to_ascii_uppercase() {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        _ => return Err(refused()),
    };
    let number: u64 = text
        .strip_suffix(unit)
        .and_then(|number| number.parse().ok())
        .ok_or_else(refused)?;
    let bytes = number.checked_mul(1 << shift).ok_or_else(refused)?;
    match bytes.is_power_of_two() && (1 << 12..=1 << 39).contains(&bytes) {
        true => Ok(Granule {
            shift: bytes.trailing_zeros(),
            joined: false,
        }),
        false => Err(refused()),
    }
}

impl TopArgs {
    fn check(&self) -> Result<(), Failure> {
        if self.granule.is_some() && self.by != By::GvaRange {
            return Err(Failure::usage(anyhow!("--granule is for --by gva-range")));
        }
        Ok(())
    }

    pub(super) fn execute(self) -> Result<ExitCode, Failure> {
        let trace = self.source.open()?;
        self.check()?;
        if matches!(self.by, By::Cr3 | By::GuestTable | By::ShadowPage) {
            source::check_tables(&trace)?;
        }
        let question = Question {
            by: self.by,
            filter: self.filter.of(&trace)?,
            granule: self.granule.unwrap_or_default(),
            symbols: self.symbols.read(&trace)?,
            ..Question::new(self.by)
        };
        let study = source::follow(&trace, self.source.vm, |vm| {
            Payers::of(vm, std::slice::from_ref(&question))
        })?;
        listed::came(&study, Payers::missing)?;
        let ranks: Vec<_> = study
            .vms
            .iter()
            .flat_map(|(vm, of)| {
                let ranks = of.ranks(trace.meta());
                ranks.into_iter().map(|rank| (vm.0, rank))
            })
            .collect();
        let start = study.span_ns[0];
        let times = summary::times(&trace).unwrap_or_default();
        let top = usize::try_from(self.top).unwrap_or(usize::MAX);
        let sections = ranks.iter().map(|(vm, rank)| {
            let mut tables = vec![top::table(rank, top, start, "")];
            if question.follows_tables() {
                tables.push(top::ping_pong(rank, top));
            }
            Section {
                vm: Some(*vm),
                title: title(*vm, rank, &question),
                tables,
                ..Section::default()
            }
        });
        let document = Document {
            head: Some(times)
                .filter(|times| !times.is_empty())
                .into_iter()
                .collect(),
            sections: sections.collect(),
            tail: Vec::new(),
        };
        let lines = verdict::cautions(&trace, &study);
        let vms = ranks.iter().map(|(vm, rank)| {
            let mut of = top::json(rank, top, start);
            of["vm"] = json!(vm);
            of
        });
        let vms: Vec<_> = vms.collect();
        let json = json!({"lost": {"records": study.lost_records()}, "vms": vms});
        self.format.print(&lines, document, &json)?;
        source::ended(&study)
    }
}

fn title(vm: u16, rank: &Rank, question: &Question) -> String {
    use crate::text::units::{ns, plural};
    let what = format!(
        "{}, {}",
        plural(rank.all.count, "fault"),
        ns(rank.all.total_ns)
    );
    let filter = match question.filter.words() {
        none if none.is_empty() => none,
        words => format!(" ({words})"),
    };
    let granule = match (rank.by, question.granule) {
        (By::GvaRange, Granule { shift, joined }) => {
            let size = page_size(1 << (shift.max(12) - 12));
            let joined = if joined { ", neighbours together" } else { "" };
            format!("; pieces of {size}{joined}")
        }
        _ => String::new(),
    };
    format!("VM {vm}: {what}{filter}{granule}")
}
