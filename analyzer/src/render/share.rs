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

const HEIGHT: f64 = 150.0;
const LEFT: f64 = 150.0;
/// Tops of the two bars.
const TIME: f64 = 46.0;
const FAULTS: f64 = 92.0;

/// Two bars over one another: time and number.
pub fn share(costs: &[(Class, ClassCost)]) -> Drawing {
    Drawing::new(HEIGHT, |canvas| draw(canvas, costs))
}

fn draw(canvas: &mut Canvas, costs: &[(Class, ClassCost)]) {
    let legend: Vec<_> = costs
        .iter()
        .map(|(class, _)| (class.name().to_owned(), palette::class(*class)))
        .collect();
    canvas.legend(&legend, (LEFT, 16.0), WIDTH - 20.0);
    let time: u64 = costs.iter().map(|(_, cost)| cost.total_ns).sum();
    let faults: u64 = costs.iter().map(|(_, cost)| cost.count).sum();
    let of_time: Vec<_> = costs
        .iter()
        .map(|(class, cost)| (*class, cost.total_ns))
        .collect();
    let of_faults: Vec<_> = costs
        .iter()
        .map(|(class, cost)| (*class, cost.count))
        .collect();
    bar(canvas, TIME, "time in faults", &ns(time), &of_time);
    bar(canvas, FAULTS, "faults", &count(faults), &of_faults)
}

/// The two bars: the part of each class, with its place.
pub fn share_places(costs: &[(Class, ClassCost)]) -> Vec<(Class, [f64; 4])> {
    let of_time = costs.iter().map(|(class, cost)| (*class, cost.total_ns));
    let of_faults = costs.iter().map(|(class, cost)| (*class, cost.count));
    let mut places = places(TIME, &of_time.collect::<Vec<_>>());
    places.extend(self::places(FAULTS, &of_faults.collect::<Vec<_>>()));
    places
}

fn places(top: f64, parts: &[(Class, u64)]) -> Vec<(Class, [f64; 4])> {
    let total = parts.iter().map(|(_, part)| *part).sum::<u64>().max(1) as f64;
    let plot = Plot {
        place: [LEFT, top, WIDTH - 100.0, top + 30.0],
        x: [0.0, total],
        y: [0.0, 1.0],
    };
    let mut from = 0.0;
    let place = |(class, part): &(Class, u64)| {
        let (start, end) = (plot.at_x(from), plot.at_x(from + *part as f64));
        from += *part as f64;
        (*class, [start, top, end, top + 30.0])
    };
    parts.iter().map(place).collect()
}

fn bar(canvas: &mut Canvas, top: f64, name: &str, whole: &str, parts: &[(Class, u64)]) {
    let total = parts.iter().map(|(_, part)| *part).sum::<u64>().max(1) as f64;
    for ((class, place), (_, part)) in places(top, parts).into_iter().zip(parts) {
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
    canvas.word(name, (LEFT - 14.0, top + 15.0), Anchor::End);
    canvas.word(whole, (WIDTH - 90.0, top + 15.0), Anchor::Start)
}
