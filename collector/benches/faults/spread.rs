//! Medians and quartiles.

use serde::Serialize;

/// A few measurements of one thing.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    pub median: f64,
    pub quartiles: [f64; 2],
    pub range: [f64; 2],
}

impl Spread {
    /// Of at least one measurement; NaN of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share| quantile(&sorted, share);
        Self {
            median: at(0.5),
            quartiles: [at(0.25), at(0.75)],
            range: [at(0.0), at(1.0)],
        }
    }
}

/// Between two measurements, in proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * sorted.len().saturating_sub(1) as f64;
    let value = |index: f64| sorted.get(index as usize).copied().unwrap_or(f64::NAN);
    value(place.floor()) + place.fract() * (value(place.ceil()) - value(place.floor()))
}
