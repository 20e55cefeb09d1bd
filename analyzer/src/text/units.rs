//! Numbers for people: scaled units, separated thousands.

/// `12,345,678`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `-12,345`.
pub fn signed(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", count(number.unsigned_abs()))
}

/// Three significant digits with the unit that suits: `870 ns`, `1.53 us`, `12.0 ms`, `3.20 s`.
pub fn duration(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 999.5 => return format!("{ns:.0} ns"),
        ns if ns < 999.5e3 => (ns / 1e3, "us"),
        ns if ns < 999.5e6 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    match value {
        v if v < 9.995 => format!("{v:.2} {unit}"),
        v if v < 99.95 => format!("{v:.1} {unit}"),
        v => format!("{v:.0} {unit}"),
    }
}

/// [`duration`] of whole nanoseconds.
pub fn ns(ns: u64) -> String {
    duration(ns as f64)
}

/// `512 B`, `1.50 KiB`, `3.20 MiB`.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1023.95 {
            return match unit {
                "B" => format!("{bytes} B"),
                _ if value < 9.995 => format!("{value:.2} {unit}"),
                _ => format!("{value:.1} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} PiB")
}

/// A size that is a power of two or a small multiple: `4K`, `2M`, `1G`.
pub fn page_size(pages: u64) -> String {
    match pages {
        p if p >= 1 << 18 && p.is_multiple_of(1 << 18) => format!("{}G", p >> 18),
        p if p >= 1 << 8 && p.is_multiple_of(1 << 8) => format!("{}M", p >> 8),
        p => format!("{}K", p.saturating_mul(4)),
    }
}

/// `12.3%`, and `0%` of nothing.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0%".to_owned();
    }
    format!("{:.1}%", part as f64 * 100.0 / whole as f64)
}

/// A number without its fraction: 0 for one below 0 or none at all, and no more than fits.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "what does not fit becomes the nearest that does"
)]
pub fn whole(value: f64) -> u64 {
    value as u64
}

/// The mean of `count` times that take `total` together, to the nearest ns; 0 of none.
pub fn mean(total: u64, count: u64) -> u64 {
    let count = count.max(1);
    total.saturating_add(count / 2) / count
}

/// How many a second, of `number` in `ns`.
pub fn per_second(number: u64, ns: u64) -> u64 {
    let rate = u128::from(number) * 1_000_000_000 / u128::from(ns.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// Seconds from a start: `1.250 s`, finer where it is short.
pub fn since(ns: u64, start: u64) -> String {
    let seconds = ns.saturating_sub(start) as f64 / 1e9;
    format!("{seconds:.6} s")
}

/// `1 fault`, `2 faults`, `2 entries`.
pub fn plural(number: u64, one: &str) -> String {
    let count = count(number);
    match (number, one.strip_suffix('y')) {
        (1, _) => format!("{count} {one}"),
        (_, Some(stem)) => format!("{count} {stem}ies"),
        (_, None) => format!("{count} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_separated() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(signed(-1234), "-1,234");
    }

    #[test]
    fn durations_keep_three_digits() {
        let shown = [0, 999, 1000, 12_345, 999_600, 3_000_000_000].map(ns);
        assert_eq!(
            shown,
            ["0 ns", "999 ns", "1.00 us", "12.3 us", "1.00 ms", "3.00 s"]
        );
    }

    #[test]
    fn sizes_have_the_unit_that_suits() {
        assert_eq!(
            [512, 1536, 5 << 20].map(bytes),
            ["512 B", "1.50 KiB", "5.00 MiB"]
        );
        assert_eq!([1, 512, 1 << 18].map(page_size), ["4K", "2M", "1G"]);
    }
}
