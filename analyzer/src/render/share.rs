//! Which class has how much of the faults, and of the time in them.

use events::Class;

use super::{
    canvas::{Anchor, Canvas, Drawing, Plot, WIDTH, width},
    palette,
};
use crate::{
    faults::ClassCost,
    text::units::{count, ns},
};

const LEFT: f64 = 150.0;
const RIGHT: f64 = WIDTH - 100.0;
/// Top of the first bar, from one to the next, and the height of one.
const TOP: f64 = 46.0;
const STEP: f64 = 46.0;
const BAR: f64 = 30.0;

/// A bar: what it shows, of all classes, and of each.
struct Bar {
    name: &'static str,
    whole: String,
    parts: Vec<(Class, u64)>,
}

/// Time and number; between them the time without faults whose thread was switched out, if some
/// were: they hold other work, and may hide which class costs most.
fn bars(costs: &[(Class, ClassCost)]) -> Vec<Bar> {
    let bar = |name, of: fn(&ClassCost) -> u64, text: fn(u64) -> String| {
        let parts: Vec<_> = costs
            .iter()
            .map(|(class, cost)| (*class, of(cost)))
            .collect();
        let whole = text(parts.iter().map(|(_, part)| *part).sum());
        Bar { name, whole, parts }
    };
    let mut bars = vec![bar("time in faults", |cost| cost.total_ns, ns)];
    if has_own_bar(costs) {
        bars.push(bar("not switched out", ClassCost::own_ns, ns));
    }
    bars.push(bar("faults", |cost| cost.count, count));
    bars
}

/// There is a bar of the time without faults whose thread was switched out.
pub fn has_own_bar(costs: &[(Class, ClassCost)]) -> bool {
    costs.len() > 1 && costs.iter().any(|(_, cost)| cost.own_ns() < cost.total_ns)
}

/// A bar for each.
pub fn share(costs: &[(Class, ClassCost)]) -> Drawing {
    let bars = bars(costs);
    let height = TOP + STEP * bars.len() as f64 + 12.0;
    Drawing::new(height, |canvas| draw(canvas, costs, &bars))
}

fn draw(canvas: &mut Canvas, costs: &[(Class, ClassCost)], bars: &[Bar]) {
    let legend: Vec<_> = costs
        .iter()
        .map(|(class, _)| (class.name().to_owned(), palette::class(*class)))
        .collect();
    canvas.legend(&legend, (LEFT, 16.0), WIDTH - 20.0);
    for (top, bar) in tops().zip(bars) {
        draw_bar(canvas, top, bar);
    }
}

fn tops() -> impl Iterator<Item = f64> {
    (0..).map(|number| TOP + STEP * f64::from(number))
}

/// The bars: the part of each class, with its place.
pub fn share_places(costs: &[(Class, ClassCost)]) -> Vec<(Class, [f64; 4])> {
    let bars = bars(costs);
    let places = tops().zip(&bars);
    places
        .flat_map(|(top, bar)| places_of(top, &bar.parts))
        .collect()
}

fn places_of(top: f64, parts: &[(Class, u64)]) -> Vec<(Class, [f64; 4])> {
    let total = parts.iter().map(|(_, part)| *part).sum::<u64>().max(1) as f64;
    let plot = Plot {
        place: [LEFT, top, RIGHT, top + BAR],
        x: [0.0, total],
        y: [0.0, 1.0],
    };
    let mut from = 0.0;
    let place = |(class, part): &(Class, u64)| {
        let (start, end) = (plot.at_x(from), plot.at_x(from + *part as f64));
        from += *part as f64;
        (*class, [start, top, end, top + BAR])
    };
    parts.iter().map(place).collect()
}

fn draw_bar(canvas: &mut Canvas, top: f64, bar: &Bar) {
    let total = bar.parts.iter().map(|(_, part)| *part).sum::<u64>().max(1) as f64;
    for ((class, place), (_, part)) in places_of(top, &bar.parts).into_iter().zip(&bar.parts) {
        let [start, _, end, _] = place;
        if end - start >= 0.5 {
            canvas.rect(place, palette::class(class));
        }
        let words = format!("{:.1}%", *part as f64 * 100.0 / total);
        // On a light patch, so that it reads on every colour.
        if end - start > width(&words) + 16.0 {
            let middle = (start + end) / 2.0;
            let half = width(&words) / 2.0 + 3.0;
            canvas.rect(
                [middle - half, top + 6.0, middle + half, top + 24.0],
                plotters::style::WHITE,
            );
            canvas.word(&words, (middle, top + 15.0), Anchor::Middle);
        }
    }
    canvas.word(bar.name, (LEFT - 14.0, top + 15.0), Anchor::End);
    canvas.word(&bar.whole, (WIDTH - 90.0, top + 15.0), Anchor::Start)
}
