//! Numbers of few bytes.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

/// A value of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word(pub u64);

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// Bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream(Vec<u8>);

impl Stream {
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    /// Seven bits in each byte, the lowest first; bit 7 says that more follow (LEB128).
    pub(super) fn number(&mut self, mut number: u64) {
        while let [low, ..] = number.to_le_bytes()
            && number > 0x7f
        {
            self.0.push(low | 0x80);
            number >>= 7;
        }
        let [low, ..] = number.to_le_bytes();
        self.0.push(low);
    }

    /// The difference of two numbers: 0, -1, 1, -2 and so on as 0, 1, 2, 3.
    pub(super) fn difference(&mut self, before: u64, now: u64) {
        let difference = now.wrapping_sub(before).cast_signed();
        let folded = (difference << 1) ^ (difference >> 63);
        self.number(folded.cast_unsigned());
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Which number a difference is from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of {
    Seq,
    Time,
    GvaHigh,
    GvaLow,
    Gfn,
    Place,
    Pfn,
    /// Frame in the guest's entry of a level, from 1.
    Gpte(usize),
}

/// Numbers before, one of each kind, and those that have a name.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    start_ns: u64,
    before: [u64; 13],
    words: Vec<Word>,
    known: HashMap<Word, u64>,
    names: Vec<String>,
    known_names: HashMap<String, u64>,
    /// Bytes of the names in [`super::Head`].
    name_bytes: usize,
}

/// Numbers of addresses in units of their pages or entries are below: a browser's numbers are exact
/// up to 2^53.
const FITS: u64 = 1 << 52;
/// Bytes of a word in [`super::Head`].
const WORD: usize = 22;

impl Numbers {
    pub(super) fn new(start_ns: u64) -> Self {
        let mut new = Self {
            start_ns,
            before: [0; 13],
            words: Vec::new(),
            known: HashMap::new(),
            names: Vec::new(),
            known_names: HashMap::new(),
            name_bytes: 0,
        };
        new.forget();
        new
    }

    /// Differences are from zero again, times from the start.
    pub(super) fn forget(&mut self) {
        self.before = [0; 13];
        *self.last(Of::Time) = self.start_ns;
    }

    pub(super) fn start_ns(&self) -> u64 {
        self.start_ns
    }

    fn last(&mut self, of: Of) -> &mut u64 {
        let [seq, time, high, low, gfn, place, pfn, gptes @ ..] = &mut self.before;
        let [first, second, third, fourth, fifth, rest] = gptes;
        match of {
            Of::Seq => seq,
            Of::Time => time,
            Of::GvaHigh => high,
            Of::GvaLow => low,
            Of::Gfn => gfn,
            Of::Place => place,
            Of::Pfn => pfn,
            Of::Gpte(1) => first,
            Of::Gpte(2) => second,
            Of::Gpte(3) => third,
            Of::Gpte(4) => fourth,
            Of::Gpte(5) => fifth,
            Of::Gpte(_) => rest,
        }
    }

    /// Writes a number as its difference from the one before; `None` where no machine has it.
    pub(super) fn put(&mut self, to: &mut Stream, of: Of, number: u64) -> Option<()> {
        if number >= FITS && !matches!(of, Of::Time | Of::Seq) {
            return None;
        }
        let last = self.last(of);
        to.difference(*last, number);
        *last = number;
        Some(())
    }

    /// Writes a value of 64 bits by its number among those that came before.
    pub(super) fn word(&mut self, to: &mut Stream, word: u64) {
        let next = self.words.len() as u64;
        let number = *self.known.entry(Word(word)).or_insert(next);
        if number == next {
            self.words.push(Word(word));
        }
        to.number(number);
    }

    /// Writes a name likewise.
    pub(super) fn name(&mut self, to: &mut Stream, name: &str) {
        let next = self.names.len() as u64;
        let number = match self.known_names.get(name) {
            Some(known) => *known,
            None => {
                let plain = crate::text::plain(name);
                self.name_bytes += plain.len() + 3;
                self.names.push(plain);
                self.known_names.insert(name.to_owned(), next);
                next
            }
        };
        to.number(number);
    }

    pub(super) fn words(&self) -> &[Word] {
        &self.words
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Bytes that words and names take besides the stream.
    pub(super) fn len(&self) -> usize {
        self.words.len() * WORD + self.name_bytes
    }
}
