//! Shadow pages by address space over time.

use events::Gpa;
use plotters::style::RGBColor;

use super::{
    canvas::{Canvas, Drawing, Plot, WIDTH},
    palette,
    time::{self, time_plot},
};
use crate::{figures::Timeline, memory::Owners};

/// Address spaces that have an area of their own.
const SHOWN: usize = 5;

/// What has an area: its name, colour and a number of pages for each bin.
pub type SpaceArea = (String, RGBColor, Vec<u64>);

/// Pages of each of the first of `spaces`, of the others together, of several, of none. What never
/// had a page is left out.
pub fn space_areas(owners: &Owners, spaces: &[Gpa]) -> Vec<SpaceArea> {
    let looks = owners.looks();
    let shown = spaces.iter().take(SHOWN);
    let own = shown.clone().zip(palette::SPACES).map(|(cr3, colour)| {
        let pages = looks.iter().map(|look| look.own.get(cr3));
        let pages = pages.map(|pages| pages.copied().unwrap_or(0));
        (format!("cr3 {cr3}"), colour, pages.collect())
    });
    let others = looks.iter().map(|look| {
        let own = look.own.iter();
        let own = own.filter(|(cr3, _)| !shown.clone().any(|shown| shown == *cr3));
        look.others + own.map(|(_, pages)| pages).sum::<u64>()
    });
    let rest: [(&str, RGBColor, Vec<u64>); 3] = [
        ("other roots", palette::OTHER_ROOTS, others.collect()),
        (
            "of several roots",
            palette::SHARED,
            looks.iter().map(|look| look.shared).collect(),
        ),
        (
            "of no root",
            palette::REST,
            looks.iter().map(|look| look.unreached).collect(),
        ),
    ];
    let rest = rest
        .into_iter()
        .map(|(name, colour, pages)| (name.to_owned(), colour, pages));
    let areas = own.chain(rest);
    areas
        .filter(|(_, _, pages): &SpaceArea| pages.iter().any(|pages| *pages > 0))
        .collect()
}

/// One area for each; `lost` in seconds.
pub fn spaces(
    (owners, spaces): (&Owners, &[Gpa]),
    timeline: &Timeline,
    lost: &[(f64, f64)],
) -> Drawing {
    let areas = space_areas(owners, spaces);
    Drawing::new(time::height(time::HEIGHT, timeline), |canvas| {
        draw(canvas, owners, areas, (timeline, lost))
    })
}

fn draw(
    canvas: &mut Canvas,
    owners: &Owners,
    areas: Vec<SpaceArea>,
    (timeline, lost): (&Timeline, &[(f64, f64)]),
) {
    let length = owners.bin_ns() as f64 / 1e9;
    let starts: Vec<f64> = (0..owners.looks().len())
        .map(|bin| bin as f64 * length)
        .collect();
    let legend: Vec<_> = areas
        .iter()
        .map(|(name, colour, _)| (name.clone(), *colour))
        .collect();
    canvas.legend(&legend, (80.0, 14.0), WIDTH - 20.0);
    let total = |bin: usize| {
        let pages = areas.iter().filter_map(|(_, _, pages)| pages.get(bin));
        pages.sum::<u64>()
    };
    let most = (0..starts.len()).map(total).max().unwrap_or(0);
    let plot = Plot {
        place: time_plot(timeline),
        x: [0.0, length * timeline.bins().len() as f64],
        y: [0.0, most.max(1) as f64 * 1.05],
    };
    let areas = areas.into_iter().map(|(_, colour, pages)| {
        let pages = pages.into_iter().map(|pages| pages as f64);
        (colour, pages.collect())
    });
    time::axis(canvas, &plot);
    plot.y_scale(canvas, time::short);
    time::stacked(canvas, &plot, &starts, length, &areas.collect::<Vec<_>>());
    time::lost(canvas, lost, &[plot]);
    time::phases(canvas, timeline, &[plot]);
    plot.ground(canvas);
    plot.title(canvas, "shadow pages");
}
