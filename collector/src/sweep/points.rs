//! The points of a sweep, and the order of their runs.

use std::str::FromStr;

use serde::Serialize;

/// Values of one parameter at most, and points at most.
const MOST: usize = 1000;

/// A parameter and the values that it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Over {
    /// Its name.
    pub name: String,
    /// Its values, in the order in which they were given.
    pub values: Vec<String>,
}

impl FromStr for Over {
    type Err = String;

    /// `vcpus=1..4` has both ends; `pages=1024,4096` is a list.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, values) = match text.split_once('=') {
            Some((name, values)) if !name.is_empty() => (name, values),
            _ => return Err("expected NAME=FROM..TO or NAME=VALUE,VALUE,...".to_owned()),
        };
        let values = match values.split_once("..") {
            Some((from, to)) => range(from, to)?,
            None => values.split(',').map(str::to_owned).collect(),
        };
        for (place, value) in values.iter().enumerate() {
            if value.is_empty() || value.contains('/') {
                return Err(format!("{value:?} is no value"));
            }
            if values.iter().take(place).any(|other| other == value) {
                return Err(format!("{value} is given twice"));
            }
        }
        Ok(Self {
            name: name.to_owned(),
            values,
        })
    }
}

fn range(from: &str, to: &str) -> Result<Vec<String>, String> {
    let number = |text: &str| {
        let number = text.parse::<u64>();
        number.map_err(|_| format!("{text:?} is no whole number"))
    };
    let (from, to) = (number(from)?, number(to)?);
    if from > to {
        return Err(format!("{from}..{to} has no value"));
    }
    if to - from >= MOST as u64 {
        return Err(format!("{from}..{to} has more than {MOST} values"));
    }
    Ok((from..=to).map(|value| value.to_string()).collect())
}

/// Values of all parameters.
pub type Point = Vec<(String, String)>;

/// Every combination of values, the last parameter changing fastest.
pub fn points(over: &[Over]) -> Result<Vec<Point>, String> {
    let mut points: Vec<Point> = vec![Vec::new()];
    for (place, parameter) in over.iter().enumerate() {
        let name = &parameter.name;
        if over.iter().take(place).any(|other| other.name == *name) {
            return Err(format!("--over {name} is given twice"));
        }
        let longer = points.iter().flat_map(|point| {
            parameter.values.iter().map(|value| {
                let mut point = point.clone();
                point.push((name.clone(), value.clone()));
                point
            })
        });
        points = longer.take(MOST + 1).collect();
        if points.len() > MOST {
            return Err(format!("more than {MOST} points"));
        }
    }
    Ok(points)
}

/// The folder of a point: `vcpus=1,pages=1024`.
pub fn folder(point: &Point) -> String {
    let words = point.iter().map(|(name, value)| format!("{name}={value}"));
    words.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_lists_make_points() {
        let over = ["vcpus=1..2", "pages=64,32"].map(|text| text.parse().expect("well-formed"));
        let folders: Vec<_> = points(&over).expect("points").iter().map(folder).collect();
        let expected = ["vcpus=1,pages=64", "vcpus=1,pages=32", "vcpus=2,pages=64"];
        assert_eq!(folders[..3], expected);
        assert_eq!(folders.len(), 4);
        for bad in [
            "vcpus",
            "=1",
            "a=2..1",
            "a=1,1",
            "a=",
            "a=x..2",
            "a=0..1000",
            "a=b/c",
        ] {
            assert!(bad.parse::<Over>().is_err(), "{bad}");
        }
        assert!(points(&[over[0].clone(), over[0].clone()]).is_err());
    }
}
