//! The frames of entries that adjoin by address.

use std::fmt::Display;

/// How they follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrameOrder {
    /// There is one entry.
    #[default]
    One,
    /// All map the same frame.
    Same,
    /// They adjoin as the addresses do.
    Adjoin,
    /// Neither.
    Differ,
}

impl FrameOrder {
    /// With one entry more: the frames of the last one so far and of this one, which is `pages` long.
    pub fn then(self, [last, next]: [u64; 2], pages: u64) -> Self {
        let step = match next.wrapping_sub(last) {
            0 => Self::Same,
            step if step == pages => Self::Adjoin,
            _ => Self::Differ,
        };
        match self {
            Self::One => step,
            so_far if so_far == step => step,
            _ => Self::Differ,
        }
    }

    /// With the frame of the first.
    pub fn words(self, first: impl Display) -> String {
        match self {
            Self::One => first.to_string(),
            Self::Same => format!("{first} for each"),
            Self::Adjoin => format!("{first} and on"),
            Self::Differ => format!("{first} and others"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_one_the_same_in_order_or_neither() {
        for (frames, expected) in [
            (&[7][..], "7"),
            (&[7, 7, 7], "7 for each"),
            (&[7, 8, 9], "7 and on"),
            (&[7, 7, 8], "7 and others"),
            (&[7, 8, 8], "7 and others"),
            (&[7, 6], "7 and others"),
        ] {
            let pairs = frames.windows(2).filter_map(|pair| pair.try_into().ok());
            let all = pairs.fold(FrameOrder::One, |all, pair: [u64; 2]| all.then(pair, 1));
            assert_eq!(all.words(frames[0]), expected);
        }
    }
}
