//! Several traces beside one another, on one scale.

use std::collections::BTreeMap;

use events::Class;

use super::{
    canvas::{Anchor, Canvas, Drawing, Plot, WIDTH},
    palette, time,
};
use crate::{
    diff::Measure,
    text::units::{count, duration, whole},
};

const LEFT: f64 = 230.0;
const RIGHT: f64 = 110.0;
/// Below the legend.
const TOP: f64 = 44.0;
const ROW: f64 = 24.0;
/// Between two classes.
const GAP: f64 = 12.0;
/// Longest name drawn, in characters.
const NAME: usize = 24;

/// The numbers of one trace.
#[derive(Clone, Debug)]
pub struct SideNumbers {
    /// Its name.
    pub name: String,
    /// What `diff` compares.
    pub numbers: BTreeMap<(Class, Measure), f64>,
}

impl SideNumbers {
    fn of(&self, class: Class, measure: Measure) -> Option<f64> {
        self.numbers.get(&(class, measure)).copied()
    }

    fn all(&self, measure: Measure) -> f64 {
        let of = self.numbers.iter().filter(|((_, of), _)| *of == measure);
        of.map(|(_, value)| value).sum()
    }

    /// So long that it has room.
    fn short(&self) -> String {
        match self.name.char_indices().nth(NAME) {
            None => self.name.clone(),
            Some(_) => {
                let kept: String = self.name.chars().take(NAME - 3).collect();
                format!("{kept}...")
            }
        }
    }
}

/// A count or a length of time.
fn value(measure: Measure, of: f64) -> String {
    match measure {
        Measure::Count => count(whole(of.round())),
        _ => duration(of),
    }
}

fn classes(sides: &[SideNumbers]) -> Vec<Class> {
    let keys = sides.iter().flat_map(|side| side.numbers.keys());
    let mut classes: Vec<_> = keys.map(|(class, _)| *class).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

fn scale(canvas: &mut Canvas, measure: Measure, most: f64, [top, bottom]: [f64; 2]) -> Plot {
    let plot = Plot {
        place: [LEFT, top, WIDTH - RIGHT, bottom],
        x: [0.0, most.max(1.0)],
        y: [0.0, 1.0],
    };
    plot.x_scale(canvas, true, |tick| match measure {
        Measure::Count => time::short(tick),
        _ => time::length(tick),
    });
    plot
}

/// A bar for each trace, its classes one after another.
pub fn totals(sides: &[SideNumbers], measure: Measure) -> Drawing {
    let bottom = TOP + (ROW + GAP) * sides.len() as f64;
    Drawing::new(bottom + 34.0, |canvas| {
        let legend = classes(sides).into_iter();
        let legend: Vec<_> = legend
            .map(|class| (class.name().to_owned(), palette::class(class)))
            .collect();
        canvas.legend(&legend, (LEFT, 16.0), WIDTH - 20.0);
        let most = sides.iter().map(|side| side.all(measure));
        let plot = scale(canvas, measure, most.fold(0.0, f64::max), [TOP, bottom]);
        for (number, side) in sides.iter().enumerate() {
            let top = TOP + GAP / 2.0 + (ROW + GAP) * number as f64;
            let mut from = 0.0;
            for class in classes(sides) {
                let part = side.of(class, measure).unwrap_or(0.0);
                let (start, end) = (plot.at_x(from), plot.at_x(from + part));
                if end - start >= 0.5 {
                    canvas.rect([start, top, end, top + ROW], palette::class(class));
                }
                from += part;
            }
            let middle = top + ROW / 2.0;
            canvas.word(&side.short(), (LEFT - 10.0, middle), Anchor::End);
            let at = (plot.at_x(from) + 8.0, middle);
            canvas.word(&value(measure, from), at, Anchor::Start);
        }
    })
}

/// For each class a bar for each trace that has it.
pub fn medians(sides: &[SideNumbers]) -> Drawing {
    let measure = Measure::Median;
    let classes = classes(sides);
    let has = |class: Class| sides.iter().any(|side| side.of(class, measure).is_some());
    let classes: Vec<_> = classes.into_iter().filter(|class| has(*class)).collect();
    let block = ROW * sides.len() as f64 + GAP;
    let bottom = block * classes.len() as f64;
    Drawing::new(bottom + 34.0, |canvas| {
        let values = sides.iter().flat_map(|side| {
            let classes = classes.iter();
            classes.filter_map(|class| side.of(*class, measure))
        });
        let plot = scale(canvas, measure, values.fold(0.0, f64::max), [0.0, bottom]);
        for (number, class) in classes.iter().enumerate() {
            let top = GAP / 2.0 + block * number as f64;
            let place = (10.0, top + ROW * sides.len() as f64 / 2.0);
            canvas.word(class.name(), place, Anchor::Start);
            for (row, side) in sides.iter().enumerate() {
                let top = top + ROW * row as f64;
                let middle = top + ROW / 2.0 - 1.0;
                canvas.word(&side.short(), (LEFT - 10.0, middle), Anchor::End);
                let (end, words) = match side.of(*class, measure) {
                    Some(of) => (plot.at_x(of), value(measure, of)),
                    None => (LEFT, "none".to_owned()),
                };
                canvas.rect([LEFT, top, end, top + ROW - 3.0], palette::class(*class));
                canvas.word(&words, (end + 8.0, middle), Anchor::Start);
            }
        }
    })
}
