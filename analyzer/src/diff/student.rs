//! Student's distribution: how much wider than a normal one an interval from few values is.

/// Steps in which the distribution is summed up.
const STEPS: u32 = 20_000;
/// From here on it is a normal one for our purpose.
const MANY: f64 = 300.0;

/// The `t` that a value stays below in size with probability `confidence`.
///
/// With `t = sqrt(n) tan(a)`, the density of the angle `a` is in proportion to `cos(a)^(n - 1)`:
/// its sum from 0 to the quarter turn gives the quantile, for any `n` from 1 on.
pub fn quantile(freedom: f64, confidence: f64) -> f64 {
    let freedom = freedom.clamp(1.0, MANY);
    let step = std::f64::consts::FRAC_PI_2 / f64::from(STEPS);
    let angle = |number: u32| (f64::from(number) + 0.5) * step;
    let density = |number: u32| angle(number).cos().powf(freedom - 1.0);
    let whole: f64 = (0..STEPS).map(density).sum();
    let mut sum = 0.0;
    for number in 0..STEPS {
        sum += density(number);
        if sum >= confidence * whole {
            return freedom.sqrt() * angle(number).tan();
        }
    }
    f64::MAX
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, confidence, t) in [
            (1.0, 0.95, 12.706),
            (2.0, 0.95, 4.303),
            (4.0, 0.99, 4.604),
            (8.0, 0.95, 2.306),
            (30.0, 0.999, 3.646),
            (1e9, 0.95, 1.960),
        ] {
            let found = quantile(freedom, confidence);
            assert!(
                (found / t - 1.0).abs() < 0.005,
                "{freedom} {confidence}: {found}"
            );
        }
    }
}
