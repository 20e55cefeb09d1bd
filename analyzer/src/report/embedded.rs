//! What the page's script works on: the numbers of the figures over time, and the tables at any
//! moment.

use std::io::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use events::{Cause, Class};
use flate2::{Compression, write::DeflateEncoder};
use serde::Serialize;

use super::{ReportError, explained::Explained};
use crate::{
    explain,
    figures::{Area, COLUMNS, Phase, Timeline, latency, steps},
    playback::Head,
    render,
    study::VmStudy,
    text::{flags, plain},
};

/// The data of one VM.
#[derive(Debug, Serialize)]
pub(super) struct Embedded<'a> {
    times: Times,
    playback: Option<Head>,
    /// The steps: raw DEFLATE (RFC 1951) in base64.
    stream: String,
    explained: &'a [Explained],
    /// What explains any record.
    command: String,
    /// What the letters of an entry mean.
    legend: &'static str,
}

/// A series: name, colour, a value for each bin.
type Series = (String, String, Vec<u64>);

/// Figures over time.
#[derive(Debug, Serialize)]
struct Times {
    bin_s: f64,
    bins: usize,
    /// Also what the class means.
    classes: Vec<(&'static str, String, Vec<u64>, &'static str)>,
    entries: Vec<u64>,
    levels: Vec<Series>,
    causes: Vec<Series>,
    spaces: Vec<Series>,
    unsync: Vec<u64>,
    phases: Vec<(String, f64)>,
    /// Where records are missing, seconds.
    lost: Vec<(f64, f64)>,
    heat: Heat,
    plots: Plots,
    /// What of the other figures is of a class.
    areas: Areas,
}

/// A class, and a rectangle of a figure: left, top, right, bottom, px.
type Place = (&'static str, [f64; 4]);

/// Figures by class without a time axis.
#[derive(Debug, Serialize)]
struct Areas {
    share: Vec<Place>,
    latency: Vec<Place>,
    steps: Vec<Place>,
}

/// The heat map, the highest addresses first.
#[derive(Debug, Serialize)]
struct Heat {
    column_s: f64,
    areas: Vec<HeatArea>,
    most: u64,
    colours: Vec<String>,
    columns: u16,
}

#[derive(Debug, Serialize)]
struct HeatArea {
    /// What it is, where that is known.
    name: String,
    from: String,
    to: String,
    rows: u64,
    row_bytes: u64,
    /// Row, column, number of the class among those of the figures, faults.
    cells: Vec<(u64, u16, usize, u64)>,
}

/// Where each figure's plots are: left, top, right, bottom, px.
#[derive(Debug, Serialize)]
struct Plots {
    rates: [[f64; 4]; 2],
    pages: [[f64; 4]; 1],
    causes: [[f64; 4]; 1],
    spaces: [[f64; 4]; 1],
    heat: Vec<[f64; 4]>,
}

/// The data of one VM as JSON that can be within a page.
pub(super) fn embedded(
    vm: &VmStudy,
    explained: &[Explained],
    (name, areas): (&str, &[String]),
    lost: &[(f64, f64)],
) -> Result<String, ReportError> {
    let playback = vm.playback.as_ref().filter(|playback| playback.exact() > 0);
    let stream = playback.map_or(Ok(String::new()), |playback| packed(playback.bytes()))?;
    let data = Embedded {
        times: times(vm, areas, lost),
        playback: playback.map(|playback| playback.head()),
        stream,
        explained,
        command: format!("analyzer explain {} --vm {}", quoted(name), vm_of(vm)),
        legend: flags::LEGEND,
    };
    // What a name could end the script with.
    Ok(serde_json::to_string(&data)?.replace('<', "\\u003c"))
}

/// As a shell takes it; a name with a zero byte is no file's.
fn quoted(name: &str) -> String {
    shlex::try_quote(name).map_or_else(|_| plain(name), |name| plain(&name))
}

fn vm_of(vm: &VmStudy) -> u16 {
    vm.meta.as_ref().map_or(0, |meta| meta.vm)
}

fn packed(bytes: &[u8]) -> Result<String, ReportError> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes)?;
    Ok(BASE64_STANDARD.encode(encoder.finish()?))
}

fn times(vm: &VmStudy, names: &[String], lost: &[(f64, f64)]) -> Times {
    let timeline = &vm.timeline;
    let bins = timeline.bins();
    let each = |of: &dyn Fn(&crate::figures::Bin) -> u64| -> Vec<u64> {
        bins.iter().map(|(_, bin)| of(bin)).collect()
    };
    let faults = |class: Class| each(&|bin| bin.faults.get(&class).copied().unwrap_or(0));
    let class = |class: Class| {
        let colour = render::class_colour(class);
        (class.name(), colour, faults(class), explain::meaning(class))
    };
    let level = |level: usize| {
        let pages = each(&|bin| bin.totals.pages.get(level - 1).copied().unwrap_or(0));
        (format!("level {level}"), render::level_colour(level), pages)
    };
    let cause = |cause: Cause| {
        let changes = each(&|bin| bin.changes.get(&cause).copied().unwrap_or(0));
        (
            cause.name().to_owned(),
            render::cause_colour(cause),
            changes,
        )
    };
    let (areas, _) = vm.records.heat.areas();
    let classes = timeline.classes();
    let heat_areas = areas.iter().zip(names);
    let heat_areas = heat_areas.map(|(of, name)| area((of, name), &classes));
    Times {
        bin_s: timeline.bin_ns() as f64 / 1e9,
        bins: bins.len(),
        classes: classes.iter().copied().map(class).collect(),
        entries: each(&|bin| bin.totals.entries()),
        levels: (1..=timeline.levels()).map(level).collect(),
        causes: timeline.causes().into_iter().map(cause).collect(),
        spaces: spaces(vm),
        unsync: each(&|bin| bin.totals.unsync),
        phases: phases(timeline),
        lost: near_as_one(lost, timeline.bin_ns() as f64 / 1e9 * bins.len() as f64),
        areas: areas_of(vm),
        plots: Plots {
            rates: render::rates_plots(timeline),
            pages: [render::time_plot(timeline)],
            causes: [render::time_plot(timeline)],
            spaces: [render::time_plot(timeline)],
            heat: render::heat_plots(&areas, timeline),
        },
        heat: Heat {
            column_s: vm.records.heat.column_seconds(),
            most: most(&areas),
            areas: heat_areas.rev().collect(),
            colours: render::heat_colours(),
            columns: COLUMNS,
        },
    }
}

fn areas_of(vm: &VmStudy) -> Areas {
    let named = |(class, place): (Class, [f64; 4])| (class.name(), place);
    let all = |of: Vec<(Class, [f64; 4])>| of.into_iter().map(named).collect();
    Areas {
        share: all(render::share_places(&vm.records.costs)),
        latency: all(render::latency_places(&latency(
            &vm.records.times,
            &vm.records.costs,
        ))),
        steps: all(render::steps_places(&steps(&vm.records.costs))),
    }
}

fn spaces(vm: &VmStudy) -> Vec<Series> {
    let owners = vm.owners.as_ref();
    let areas = owners.map(|owners| render::space_areas(owners, &vm.spaces()));
    areas
        .unwrap_or_default()
        .into_iter()
        .map(|(name, colour, pages)| (name, render::code(colour), pages))
        .collect()
}

fn phases(timeline: &Timeline) -> Vec<(String, f64)> {
    let phase = |phase: &Phase| {
        (
            plain(&timeline.label(phase)),
            timeline.seconds(phase.time_ns),
        )
    };
    timeline.phases.iter().map(phase).collect()
}

/// Spans nearer to each other than a two-thousandth of the whole are one: of many, the page has the
/// outline.
fn near_as_one(spans: &[(f64, f64)], whole: f64) -> Vec<(f64, f64)> {
    let mut ones: Vec<(f64, f64)> = Vec::new();
    let near = match spans.len() {
        0..1000 => 0.0,
        _ => whole / 2000.0,
    };
    for (from, to) in spans {
        match ones.last_mut() {
            Some((_, end)) if from - *end <= near => *end = end.max(*to),
            _ => ones.push((*from, *to)),
        }
    }
    ones
}

fn most(areas: &[Area]) -> u64 {
    let cells = areas.iter().flat_map(|area| area.cells.values());
    cells.copied().max().unwrap_or(1)
}

fn area((area, name): (&Area, &String), classes: &[Class]) -> HeatArea {
    let bytes = area.rows.saturating_mul(area.row_bytes);
    let cells = area.by_class.iter();
    let number = |class: Class| classes.iter().position(|of| *of == class);
    HeatArea {
        name: name.clone(),
        from: area.from.to_string(),
        to: format!("{:#x}", area.from.0.wrapping_add(bytes)),
        rows: area.rows,
        row_bytes: area.row_bytes,
        cells: cells
            .filter_map(|((row, column, class), n)| Some((*row, *column, number(*class)?, *n)))
            .collect(),
    }
}
