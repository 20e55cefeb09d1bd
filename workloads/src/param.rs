//! Parameters: their kinds, and checked values.

use std::fmt;

use crate::ParamError;

/// One parameter of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name, as in `--param name=value`.
    pub name: &'static str,
    /// Its meaning, in one line.
    pub doc: &'static str,
    /// The values that it takes.
    pub kind: Kind,
    /// The default value, as a user would write it.
    pub default: &'static str,
}

/// The values that a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number, from `min` to `max`.
    Count {
        /// Smallest.
        min: u64,
        /// Largest.
        max: u64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// Any whole number of 64 bits, decimal or with `0x`.
    Seed,
}

/// A value that passed its parameter's check. Prints as a user would write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a [`Kind::Count`].
    Count(u64),
    /// Of a [`Kind::Choice`].
    Choice(&'static str),
    /// Of a [`Kind::Flag`].
    Flag(bool),
    /// Of a [`Kind::Seed`].
    Seed(u64),
}

impl Param {
    /// The value in [`abi::BootInfo::params`].
    pub(crate) fn number(&self, value: Value) -> u64 {
        match (value, self.kind) {
            (Value::Count(number) | Value::Seed(number), _) => number,
            (Value::Flag(flag), _) => flag.into(),
            (Value::Choice(word), Kind::Choice(words)) => {
                let place = words.iter().position(|&one| one == word);
                place.unwrap_or(0) as u64
            }
            (Value::Choice(_), _) => 0,
        }
    }

    /// Checks `text` against the parameter's kind.
    ///
    /// # Errors
    /// [`ParamError::Value`] with the values allowed.
    pub fn parse(&self, text: &str) -> Result<Value, ParamError> {
        let value = match self.kind {
            Kind::Count { min, max } => number(text)
                .filter(|n| (min..=max).contains(n))
                .map(Value::Count),
            Kind::Choice(words) => words
                .iter()
                .find(|&&word| word == text)
                .map(|&word| Value::Choice(word)),
            Kind::Flag => text.parse().ok().map(Value::Flag),
            Kind::Seed => number(text).map(Value::Seed),
        };
        value.ok_or_else(|| ParamError::Value {
            name: self.name,
            found: text.to_owned(),
            expected: self.kind.to_string(),
        })
    }
}

/// A decimal or `0x` number; `_` may separate digits.
fn number(text: &str) -> Option<u64> {
    let digits = text.replace('_', "");
    match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::Flag => f.write_str("true or false"),
            Self::Seed => f.write_str("a whole number below 2^64, decimal or 0x…"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(number) | Self::Seed(number) => number.fmt(f),
            Self::Choice(word) => f.write_str(word),
            Self::Flag(flag) => flag.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: Kind, text: &str) -> Result<Value, String> {
        let param = Param {
            name: "p",
            doc: "",
            kind,
            default: "",
        };
        param.parse(text).map_err(|error| error.to_string())
    }

    #[test]
    fn values_in_range_pass() {
        let count = Kind::Count { min: 1, max: 4096 };
        assert_eq!(parse(count, "4_096"), Ok(Value::Count(4096)));
        assert_eq!(parse(count, "0x10"), Ok(Value::Count(16)));
        assert_eq!(parse(Kind::Flag, "false"), Ok(Value::Flag(false)));
        assert_eq!(
            parse(Kind::Choice(&["a", "b"]), "b"),
            Ok(Value::Choice("b"))
        );
        assert_eq!(
            parse(Kind::Seed, "18446744073709551615"),
            Ok(Value::Seed(u64::MAX))
        );
    }

    #[test]
    fn errors_name_the_range() {
        let count = Kind::Count { min: 1, max: 4096 };
        for text in ["0", "4097", "", "-1", "0x", "many", "18446744073709551616"] {
            let expected =
                format!("parameter 'p' cannot be '{text}': it takes a whole number from 1 to 4096");
            assert_eq!(parse(count, text), Err(expected));
        }
        let error = parse(Kind::Choice(&["a", "b"]), "c").unwrap_err();
        assert_eq!(error, "parameter 'p' cannot be 'c': it takes one of a, b");
        assert!(
            parse(Kind::Flag, "yes")
                .unwrap_err()
                .ends_with("true or false")
        );
    }
}
