//! Which addresses fault when.

use super::{
    canvas::{Anchor, Canvas, Drawing, Plot, WIDTH},
    palette, time,
};
use crate::{
    figures::{Area, COLUMNS, HeatMap, Timeline},
    text::units::{bytes, plural, whole},
};

const LEFT: f64 = 170.0;
/// Between two areas.
const GAP: f64 = 46.0;
/// Height of the area with most faults.
const AREA: f64 = 150.0;
/// Height of one with none: its addresses and what is known of it have room.
const LEAST: f64 = 64.0;
/// An area of this height has a line for each part of what is known of it.
const ROOMY: f64 = 110.0;
const TOP: f64 = 116.0;
/// Characters of a name that have room.
const NAME: usize = 22;

/// The plot of each area, the highest addresses first: left, top, right, bottom, px.
pub fn heat_plots(areas: &[Area], timeline: &Timeline) -> Vec<[f64; 4]> {
    let mut top = TOP;
    let mut plots = Vec::new();
    for height in heights(areas).into_iter().rev() {
        let plot = [LEFT, top, WIDTH - 20.0, top + height];
        plots.push(time::place(plot, timeline));
        top += height + GAP;
    }
    plots
}

/// The height of each area: what few faults touch takes less of the page.
fn heights(areas: &[Area]) -> Vec<f64> {
    let most = areas.iter().map(|area| area.faults).max().unwrap_or(0);
    let share = |area: &Area| area.faults as f64 / most.max(1) as f64;
    let height = |area| LEAST + (AREA - LEAST) * f64::sqrt(share(area));
    areas.iter().map(height).collect()
}

/// One plot for each area with faults, by its name in `names`; phases from `timeline`.
pub fn heat(map: &HeatMap, names: &[String], timeline: &Timeline) -> Drawing {
    let (areas, elsewhere) = map.areas();
    let of_areas: f64 = heights(&areas).iter().map(|height| height + GAP).sum();
    let height = TOP + of_areas + 10.0;
    Drawing::new(time::height(height, timeline), |canvas| {
        draw(canvas, map, (names, timeline), &areas, elsewhere)
    })
}

fn draw(
    canvas: &mut Canvas,
    map: &HeatMap,
    (names, timeline): (&[String], &Timeline),
    areas: &[Area],
    elsewhere: u64,
) {
    let most = areas
        .iter()
        .flat_map(|area| area.cells.values())
        .copied()
        .max()
        .unwrap_or(1);
    legend(canvas, most, elsewhere);
    let x = [0.0, map.column_seconds() * f64::from(COLUMNS)];
    let (unit, seconds) = time::unit(x[1]);
    let right = WIDTH - 20.0;
    let mut plots = Vec::new();
    // The highest addresses on top.
    let places = heat_plots(areas, timeline);
    for ((number, place), (at, area)) in places
        .into_iter()
        .enumerate()
        .zip(areas.iter().enumerate().rev())
    {
        let plot = Plot {
            place,
            x,
            y: [0.0, area.rows as f64],
        };
        let last = number + 1 == areas.len();
        Plot {
            x: [0.0, x[1] / seconds],
            ..plot
        }
        .x_scale(canvas, last, time::number);
        cells(canvas, &plot, area, map.column_seconds(), most);
        labels(
            canvas,
            &plot,
            area,
            names.get(at).map_or("", String::as_str),
        );
        plots.push(plot);
    }
    time::phases(canvas, timeline, &plots);
    let bottom = plots.last().map_or(TOP, |plot| plot.place[3]);
    canvas.word(
        &format!("time from the start, {unit}"),
        (right, bottom + 32.0),
        Anchor::End,
    )
}

/// Which of the colours a count has: equal steps of its logarithm.
fn colour(count: u64, most: u64) -> usize {
    let steps = palette::HEAT.len() as f64;
    let share = (count.max(1) as f64).ln() / (most.max(2) as f64).ln();
    let step = usize::try_from(whole(share * steps)).unwrap_or(usize::MAX);
    step.min(palette::HEAT.len() - 1)
}

fn legend(canvas: &mut Canvas, most: u64, elsewhere: u64) {
    let mut entries: Vec<(String, _)> = Vec::new();
    let mut seen = None;
    // The lowest count of each colour, by trying: at most 64 doublings.
    let steps = palette::HEAT.len();
    for (step, shade) in palette::HEAT.iter().enumerate() {
        let low = whole((most.max(2) as f64).powf(step as f64 / steps as f64).ceil());
        if low <= most.max(1) && seen != Some(low) {
            entries.push((format!("{} or more", time::short(low as f64)), *shade));
            seen = Some(low);
        }
    }
    let used = canvas.legend(&entries, (LEFT, 14.0), WIDTH - 20.0);
    let words = if elsewhere > 0 {
        format!(
            "faults in a cell; {} elsewhere are not shown",
            plural(elsewhere, "fault")
        )
    } else {
        "faults in a cell".to_owned()
    };
    canvas.word(&words, (LEFT, 14.0 + used), Anchor::Start)
}

/// Neighbours of one colour are drawn as one rectangle.
fn cells(canvas: &mut Canvas, plot: &Plot, area: &Area, column: f64, most: u64) {
    let mut run: Option<(u64, u16, u16, usize)> = None;
    let mut draw = |(row, first, last, shade): (u64, u16, u16, usize)| {
        let (from, to) = (
            plot.at_x(f64::from(first) * column),
            plot.at_x((f64::from(last) + 1.0) * column),
        );
        let (top, bottom) = (plot.at_y(row as f64 + 1.0), plot.at_y(row as f64));
        let Some(shade) = palette::HEAT.get(shade) else {
            return;
        };
        canvas.rect(
            [from, top, to.max(from + 2.0), bottom.max(top + 2.0)],
            *shade,
        )
    };
    for ((row, column), count) in &area.cells {
        let shade = colour(*count, most);
        match &mut run {
            Some((of, _, last, same))
                if of == row && *same == shade && last.checked_add(1) == Some(*column) =>
            {
                *last = *column;
            }
            _ => {
                if let Some(run) = run.take() {
                    draw(run);
                }
                run = Some((*row, *column, *column, shade));
            }
        }
    }
    if let Some(run) = run {
        draw(run);
    }
}

/// So long that it has room: of a function's path, the end.
fn short(name: &str) -> String {
    let length = name.chars().count();
    match length.checked_sub(NAME) {
        None | Some(0) => name.to_owned(),
        Some(over) => {
            let end: String = name.chars().skip(over + 3).collect();
            format!("...{end}")
        }
    }
}

fn labels(canvas: &mut Canvas, plot: &Plot, area: &Area, name: &str) {
    let [left, top, _, bottom] = plot.place;
    plot.ground(canvas);
    let end = area.from.0.wrapping_add(area.bytes);
    canvas.word(&format!("{end:#x}"), (left - 8.0, top + 6.0), Anchor::End);
    let mut parts = name.split(", ").take(2).filter(|part| !part.is_empty());
    let (size, faults) = (bytes(area.bytes), plural(area.faults, "fault"));
    // One line for each part that has room.
    let lines: Vec<_> = match bottom - top >= ROOMY {
        true => {
            let first = parts.next().map(short);
            let known = first.into_iter().chain([size, faults]);
            known.chain(parts.next().map(short)).collect()
        }
        false => [parts.next().map(short), Some(format!("{size}, {faults}"))]
            .into_iter()
            .flatten()
            .collect(),
    };
    let mut y = (top + bottom) / 2.0 - 8.0 * (lines.len() as f64 - 1.0);
    for line in lines {
        canvas.word(&line, (left - 8.0, y), Anchor::End);
        y += 16.0;
    }
    canvas.word(
        &area.from.to_string(),
        (left - 8.0, bottom - 6.0),
        Anchor::End,
    )
}
