//! The figures of one VM with their captions.

use events::Gpa;
use serde::Serialize;

use super::{ReportError, html::escaped};
use crate::{
    faults::total,
    figures::{Area, Bin, PER_DECADE, absent, latency, steps},
    memory::{Look, Owners},
    render::{self, Drawing},
    study::{Study, VmStudy},
    symbols::Symbols,
    text::{
        plain,
        units::{bytes, count, duration, ns, percent, plural},
    },
};

/// A figure on the page.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Its name on the page and of its file.
    pub name: &'static str,
    /// What it shows.
    pub title: String,
    /// The drawing; not in JSON, where it would drown the numbers.
    #[serde(skip)]
    pub drawing: Drawing,
    /// As SVG.
    #[serde(skip)]
    pub svg: String,
    /// Its main numbers, for those who do not see it.
    pub numbers: String,
    /// n, units, and what to read from it.
    pub caption: String,
}

impl Figure {
    /// The SVG with its numbers in words.
    pub(crate) fn labelled(&self) -> String {
        let words = escaped(&self.numbers);
        let label = format!(r#"<svg role="img" aria-label="{words}" "#);
        self.svg.replacen("<svg ", &label, 1)
    }
}

/// The figures of a VM that has faults. What to know of every time is said at the top of the page.
pub(super) fn figures(
    study: &Study,
    vm: &VmStudy,
    symbols: &Symbols,
) -> Result<Vec<Figure>, ReportError> {
    if vm.records.times.is_empty() {
        return Ok(Vec::new());
    }
    let lost = lost(study, vm);
    let names = names(vm, symbols);
    let mut figures = vec![
        figure(
            ("share", "Time and number of faults by class"),
            render::share(&vm.records.costs),
            shares(vm),
            [
                &plural(vm.counts.faults(), "fault"),
                ". The time of a fault is from the first to the last moment seen of it. A class \
                 whose share of the time is much larger than its share of the number is \
                 expensive. ",
                without_switched_out(vm),
            ],
        )?,
        rates(vm, &lost)?,
        figure(
            ("latency", "How long faults last"),
            render::latency(&latency(&vm.records.times, &vm.records.costs)),
            percentiles(vm),
            [
                &format!("Logarithmic axis, {PER_DECADE} bins for each factor of ten"),
                "; each class is drawn to its own height. Triangles: p50, p95, p99; few faults have \
                 the median alone. ",
                "Two humps in one class are two paths through the kernel.",
            ],
        )?,
        steps_of_a_fault(vm)?,
        figure(
            ("heat", "Which addresses fault when"),
            render::heat(&vm.records.heat, &names, &vm.timeline),
            areas(vm, &names),
            [
                "Faults by GVA and time; a step of colour is a factor. Beside each area is what is \
                 known of it: the work range of a workload, its memslots. A diagonal is a first \
                 walk through memory; a second mark at the same height is a page that faulted \
                 again.",
                "",
                "",
            ],
        )?,
    ];
    if !vm.timeline.causes().is_empty() {
        figures.push(causes(vm, &lost)?);
    }
    figures.push(pages(vm, &lost)?);
    let several = vm.spaces();
    if let Some(owners) = vm.owners.as_ref().filter(|_| several.len() > 1) {
        figures.push(spaces(vm, (owners, &several), &lost)?);
    }
    Ok(figures)
}

pub(crate) fn figure(
    (name, title): (&'static str, &str),
    drawing: Drawing,
    numbers: String,
    caption: [&str; 3],
) -> Result<Figure, ReportError> {
    Ok(Figure {
        name,
        title: title.to_owned(),
        svg: drawing.svg()?,
        drawing,
        numbers,
        caption: caption.concat().trim_end().to_owned(),
    })
}

/// Address spaces that a figure's words name.
const NAMED: usize = 3;

/// Parts of a sentence.
pub(super) fn sentence(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join("; ")
}

fn shares(vm: &VmStudy) -> String {
    let all = total(vm.records.costs.iter().map(|(_, cost)| cost.total_ns));
    sentence(vm.records.costs.iter().map(|(class, cost)| {
        let share = percent(cost.total_ns, all);
        let faults = plural(cost.count, "fault");
        format!("{}: {share} of the time, {faults}", class.name())
    }))
}

/// About the bar that is there if some faults hold other work.
fn without_switched_out(vm: &VmStudy) -> &'static str {
    match are_switched_out(vm) {
        true => "Not switched out: without the faults whose thread was.",
        false => "",
    }
}

fn are_switched_out(vm: &VmStudy) -> bool {
    let mut costs = vm.records.costs.iter();
    costs.any(|(_, cost)| cost.own_ns() < cost.total_ns)
}

fn percentiles(vm: &VmStudy) -> String {
    sentence(vm.records.costs.iter().map(|(class, cost)| {
        let marked = crate::figures::percentiles(cost).into_iter();
        let marked = marked.map(|(name, of)| format!("{name} {}", ns(of)));
        let marked: Vec<_> = marked.collect();
        let (class, longest) = (class.name(), ns(cost.max_ns));
        format!("{class}: {}, longest {longest}", marked.join(", "))
    }))
}

fn peaks(vm: &VmStudy) -> String {
    let bins = vm.timeline.bins();
    let faults = |bin: &Bin| bin.faults.values().sum::<u64>();
    let most = bins.iter().max_by_key(|(_, bin)| faults(bin));
    let most = most.map(|(start, bin)| {
        let at = duration(start * 1e9);
        let length = ns(vm.timeline.bin_ns());
        let faults = plural(faults(bin), "fault");
        format!("at most {faults} in {length}, {at} after the start")
    });
    let entries = bins.iter().map(|(_, bin)| bin.totals.entries());
    let last = bins.last().map_or(0, |(_, bin)| bin.totals.entries());
    let most_entries = plural(entries.max().unwrap_or(0), "entry");
    let entries = format!("at most {most_entries}, {} at the end", count(last));
    sentence(most.into_iter().chain([entries]))
}

/// What is known of each area of the heat map: the workload's range or the upper half, memslots, the
/// function at the row with most faults.
pub(super) fn names(vm: &VmStudy, symbols: &Symbols) -> Vec<String> {
    let (areas, _) = vm.records.heat.areas();
    let name = |area: &Area| {
        let region = match area.from.0 >> 63 {
            _ if vm.has_range(area.from, area.bytes) => Some("work range".to_owned()),
            1 => Some("upper half".to_owned()),
            _ => None,
        };
        let slots: Vec<_> = area.slots.iter().take(NAMED).collect();
        let numbers: Vec<_> = slots.iter().map(|slot| slot.0.to_string()).collect();
        let slots = match slots.len() {
            0 => None,
            1 => Some(format!("slot {}", numbers.concat())),
            few if few == area.slots.len() => Some(format!("slots {}", numbers.join("+"))),
            _ => Some(format!("slots {} and others", numbers.join("+"))),
        };
        // A longer row may have several functions.
        let is_page = area.row_bytes <= 4096;
        let symbol = is_page.then(|| symbols.place(area.hottest())).flatten();
        let parts = region.into_iter().chain(slots).chain(symbol);
        plain(&parts.collect::<Vec<_>>().join(", "))
    };
    areas.iter().map(name).collect()
}

fn areas(vm: &VmStudy, names: &[String]) -> String {
    let (areas, elsewhere) = vm.records.heat.areas();
    let named = areas.iter().zip(names).map(|(area, name)| {
        let size = bytes(area.bytes);
        let faults = plural(area.faults, "fault");
        let name = match name.as_str() {
            "" => String::new(),
            name => format!(" ({name})"),
        };
        format!("{faults} in {size} from {}{name}", area.from)
    });
    let rest = (elsewhere > 0).then(|| format!("{} elsewhere", plural(elsewhere, "fault")));
    sentence(named.chain(rest))
}

fn most_pages(vm: &VmStudy) -> String {
    let bins = vm.timeline.bins();
    let pages = plural(vm.memory.peak().pages, "shadow page");
    let pages = format!("at most {pages}, {} at the end", count(last_pages(vm)));
    match bins.iter().map(|(_, bin)| bin.totals.unsync).max() {
        None | Some(0) => pages,
        Some(unsync) => format!(
            "{pages}; at most {} unsync at the end of a span",
            count(unsync)
        ),
    }
}

/// What the thin lines of a figure mean, if there are any.
fn phase_lines(vm: &VmStudy) -> &'static str {
    match (
        render::has_phases(&vm.timeline),
        vm.timeline.phases.is_empty(),
    ) {
        (true, _) => " Thin lines are the guest's phases.",
        (false, true) => "",
        (false, false) => " The guest's phases are too many for a line each.",
    }
}

fn rates(vm: &VmStudy, lost: &Lost) -> Result<Figure, ReportError> {
    let bin = ns(vm.timeline.bin_ns());
    figure(
        ("rates", "Faults a second, and entries in the shadow tables"),
        render::rates(&vm.timeline, &lost.spans),
        peaks(vm),
        [
            &format!(
                "In bins of {bin}, stacked by class; below, SPTEs (leaves and links) as replayed at \
                 the end of each bin.{}",
                phase_lines(vm)
            ),
            " Faults that add no entries are repeated or refused work.",
            &lost.words,
        ],
    )
}

fn steps_of_a_fault(vm: &VmStudy) -> Result<Figure, ReportError> {
    let bars = steps(&vm.records.costs);
    let missing: Vec<_> = absent(&bars).into_iter().map(|step| step.name()).collect();
    let missing = match missing.join(", ") {
        none if none.is_empty() => none,
        missing => format!(
            " Absent, because this host does not show them or no fault had them: {missing}."
        ),
    };
    let which = match are_switched_out(vm) {
        true => ", without those whose thread was switched out",
        false => "",
    };
    let numbers = bars.iter().map(|bar| {
        let steps = bar.steps.iter();
        let steps: Vec<_> = steps
            .map(|(step, mean)| format!("{} {}", bar.label(*step), duration(*mean)))
            .collect();
        let mean = duration(bar.mean_ns);
        format!("{}: mean {mean} ({})", bar.class.name(), steps.join(", "))
    });
    figure(
        ("steps", "Where the time of a fault goes"),
        render::steps(&bars),
        sentence(numbers),
        [
            &format!(
                "Mean over the faults of a class{which}, cut into the steps that the trace shows. "
            ),
            "The longest part is what to make cheaper.",
            &missing,
        ],
    )
}

fn causes(vm: &VmStudy, lost: &Lost) -> Result<Figure, ReportError> {
    let bins = vm.timeline.bins();
    let of = |cause| -> u64 {
        let changes = bins.iter().filter_map(|(_, bin)| bin.changes.get(cause));
        changes.sum()
    };
    let causes = vm.timeline.causes();
    let numbers = causes
        .iter()
        .map(|cause| format!("{}: {}", cause.name(), plural(of(cause), "change")));
    figure(
        ("causes", "Why entries change"),
        render::causes(&vm.timeline, &lost.spans),
        sentence(numbers),
        [
            &format!(
                "In bins of {}, stacked by cause. ",
                ns(vm.timeline.bin_ns())
            ),
            "The leaf that a fault stores is no change here; an entry that was read again, and \
             had not changed, neither. An entry that something else than a fault removed may \
             fault again.",
            &lost.words,
        ],
    )
}

fn pages(vm: &VmStudy, lost: &Lost) -> Result<Figure, ReportError> {
    let made = count(vm.counts.page(events::PageEvent::Born));
    figure(
        ("pages", "Shadow pages by level"),
        render::pages(&vm.timeline, &lost.spans),
        most_pages(vm),
        [
            &format!(
                "{} at the end, {made} made in all, as replayed; each takes 4 KiB of the host.",
                plural(last_pages(vm), "shadow page"),
            ),
            " A fall is KVM zapping tables.",
            &lost.words,
        ],
    )
}

fn spaces(
    vm: &VmStudy,
    (owners, spaces): (&Owners, &[Gpa]),
    lost: &Lost,
) -> Result<Figure, ReportError> {
    let looks = owners.looks();
    let most = |of: &dyn Fn(&Look) -> u64| looks.iter().map(of).max().unwrap_or(0);
    let all = total(vm.records.costs.iter().map(|(_, cost)| cost.total_ns));
    let own = spaces.iter().take(NAMED).map(|cr3| {
        let pages = plural(
            most(&|look| look.own.get(cr3).copied().unwrap_or(0)),
            "page",
        );
        let share = percent(vm.of_cr3(*cr3).total_ns, all);
        format!("cr3 {cr3}: {share} of the time in faults, at most {pages}")
    });
    let shared = plural(most(&|look| look.shared), "page");
    let duplicates = most(&|look| look.duplicates);
    let numbers = sentence(own.chain([
        format!("at most {shared} of several roots"),
        format!(
            "at most {} beyond the first of their guest table",
            plural(duplicates, "page")
        ),
    ]));
    let end = match (owners.is_whole(), owners.is_coarse()) {
        (true, false) => "",
        (true, true) => " Steps are longer where there were too many pages to look at often.",
        (false, _) => " It ends where there were too many pages to look at.",
    };
    figure(
        ("spaces", "Shadow pages by address space"),
        render::spaces((owners, spaces), &vm.timeline, &lost.spans),
        numbers,
        [
            "Pages that only one CR3 leads to, at the end of each bin; those of several roots \
             are apart. The CR3s with the most time in faults have a colour each, the costliest \
             first. KVM has pages of its own for each address space that it shadows.",
            end,
            &lost.words,
        ],
    )
}

fn last_pages(vm: &VmStudy) -> u64 {
    vm.timeline
        .bins()
        .last()
        .map_or(0, |(_, bin)| bin.totals.all_pages())
}

/// Where records are missing.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Seconds from the start.
    pub(super) spans: Vec<(f64, f64)>,
    /// What the red spans of a figure mean; empty without any.
    words: String,
}

/// What is missing of a VM, and how much of the recording that is.
pub(super) fn lost(study: &Study, vm: &VmStudy) -> Lost {
    let spans = study.lost_spans();
    if spans.is_empty() {
        return Lost::default();
    }
    let [from, to] = study.span_ns;
    let long = total(spans.iter().map(|[from, to]| to.saturating_sub(*from)));
    let words = format!(
        " Red: {} missing, in {} of {} together ({} of the recording).",
        match study.lost_records() {
            1 => "1 record is".to_owned(),
            records => format!("{} records are", count(records)),
        },
        plural(spans.len() as u64, "stretch"),
        ns(long),
        percent(long, to.saturating_sub(from)),
    );
    let seconds = |[from, to]: [u64; 2]| (vm.timeline.seconds(from), vm.timeline.seconds(to));
    Lost {
        spans: spans.into_iter().map(seconds).collect(),
        words,
    }
}
