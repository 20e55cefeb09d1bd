//! Bytes, lengths and names of a trace's files.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use fastrand::Rng;
use serde_json::{Value, json};

/// Every file of a trace.
fn all(trace: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(trace).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(all(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}

fn any(trace: &Path, random: &mut Rng) -> PathBuf {
    random.choice(all(trace)).unwrap()
}

/// Some bytes anywhere change.
fn flip(bytes: &mut [u8], random: &mut Rng) {
    if bytes.is_empty() {
        return;
    }
    for _ in 0..random.usize(1..20) {
        let at = random.usize(..bytes.len());
        bytes[at] = match random.u8(..4) {
            0 => 0,
            1 => 0xff,
            2 => bytes[at] ^ 1 << random.u8(..8),
            _ => random.u8(..),
        };
    }
}

/// One to three files are damaged.
pub fn damage(trace: &Path, random: &mut Rng) {
    for _ in 0..random.usize(1..4) {
        let file = any(trace, random);
        let mut bytes = fs::read(&file).unwrap_or_default();
        match random.u8(..9) {
            0..3 => flip(&mut bytes, random),
            3 => bytes.truncate(random.usize(..=bytes.len())),
            4 => bytes.extend_from_within(..random.usize(..=bytes.len())),
            5 => bytes = fs::read(any(trace, random)).unwrap_or_default(),
            odd => {
                fs::remove_file(&file).unwrap();
                match odd {
                    6 => {}
                    7 => fs::create_dir(&file).unwrap(),
                    _ => symlink("/dev/zero", &file).unwrap(),
                }
                // A folder or a device is not written to.
                return;
            }
        }
        fs::write(&file, bytes).unwrap();
    }
}

/// Bytes of Parquet files change, with the lengths and checksums that the list has for them.
pub fn damage_parquet(trace: &Path, random: &mut Rng) {
    let segments: Vec<_> = all(trace)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|end| end == "parquet"))
        .collect();
    for _ in 0..random.usize(1..4) {
        let Some(file) = random.choice(&segments) else {
            return;
        };
        let mut bytes = fs::read(file).unwrap();
        // The metadata at the end decides what is allocated.
        let from = match random.bool() {
            true => bytes.len() * 3 / 4,
            false => 0,
        };
        flip(&mut bytes[from..], random);
        if random.u8(..8) == 0 {
            bytes.truncate(random.usize(..=bytes.len()));
        }
        fs::write(file, bytes).unwrap();
    }
    mend(trace);
}

/// Writes the lengths and checksums of the files as they are now to the list.
pub fn mend(trace: &Path) {
    let list = trace.join("segments.jsonl");
    let text = fs::read_to_string(&list).unwrap();
    let lines = text.lines().map(|line| {
        let mut segment: Value = serde_json::from_str(line).unwrap();
        let (kind, number) = (segment["kind"].as_str(), segment["segment"].as_u64());
        let name = format!("{}/{:06}.parquet", kind.unwrap(), number.unwrap());
        if let Ok(bytes) = fs::read(trace.join(name)) {
            segment["bytes"] = json!(bytes.len());
            segment["crc32"] = json!(crc32fast::hash(&bytes));
        }
        format!("{segment}\n")
    });
    fs::write(&list, lines.collect::<String>()).unwrap();
}

/// The names of functions: random lines of the right shape and of no shape.
pub fn damage_symbols(trace: &Path, random: &mut Rng) {
    let mut text = String::new();
    let lines = match random.bool() {
        true => 50_000,
        false => random.usize(..50),
    };
    for _ in 0..lines {
        text += &match random.u8(..8) {
            0 => format!("{:x} t {}\n", random.u64(..), super::EVIL),
            1 => "ffffffffffffffffff T too_long\n".to_owned(),
            2 => format!("{:016x} {:016x} T all\n", 0, u64::MAX),
            3 => "\0\u{fffd}  \n".to_owned(),
            4 => format!("0 t {}\n", "_".repeat(random.usize(..2_000))),
            5 => "T\n".to_owned(),
            _ => format!(
                "{:x} {:x} t f{}\n",
                random.u64(..),
                random.u16(..),
                random.u8(..)
            ),
        };
    }
    fs::write(trace.join("symbols.txt"), text).unwrap();
}
