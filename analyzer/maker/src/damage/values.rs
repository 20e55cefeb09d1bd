//! Values of a trace's metadata and of its list of segments.

use std::{fs, path::Path};

use fastrand::Rng;
use serde_json::{Value, json};

use super::EVIL;

/// How often a list is repeated at most.
const REPEATED: usize = 20_000;

/// One to four values of `meta.json` change.
pub fn damage_metadata(trace: &Path, random: &mut Rng) {
    let path = trace.join("meta.json");
    let mut meta: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for _ in 0..random.usize(1..5) {
        damage(&mut meta, random);
    }
    if random.u8(..4) == 0 {
        everywhere(&mut meta, random);
    }
    fs::write(&path, meta.to_string()).unwrap();
}

/// One to four values of the list change; its lines may be reordered.
pub fn damage_list(trace: &Path, random: &mut Rng) {
    let path = trace.join("segments.jsonl");
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for _ in 0..random.usize(1..5) {
        if let Some(line) = random.choice(lines.iter_mut()) {
            damage(line, random);
        }
    }
    match random.u8(..4) {
        0 => random.shuffle(&mut lines),
        1 => lines.reverse(),
        2 => lines.truncate(random.usize(..=lines.len())),
        _ => {}
    }
    let lines = lines.iter().map(|line| format!("{line}\n"));
    fs::write(&path, lines.collect::<String>()).unwrap();
}

/// A value somewhere below changes.
fn damage(value: &mut Value, random: &mut Rng) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            let keys: Vec<_> = map.keys().cloned().collect();
            let key = &keys[random.usize(..keys.len())];
            match random.u8(..12) {
                0 => drop(map.remove(key)),
                _ => damage(&mut map[key], random),
            }
        }
        Value::Array(list) if !list.is_empty() => match random.u8(..6) {
            0 => list.clear(),
            1 => {
                let again = list.clone();
                let times = (REPEATED / list.len()).min(random.usize(1..=REPEATED));
                for number in 0..times {
                    list.extend(again.iter().cloned().map(|mut of| {
                        if let Some(vm) = of.get_mut("vm") {
                            *vm = json!(number);
                        }
                        of
                    }));
                }
            }
            _ => {
                let at = random.usize(..list.len());
                damage(&mut list[at], random);
            }
        },
        other => *other = leaf(other, random),
    }
}

fn leaf(value: &Value, random: &mut Rng) -> Value {
    match (value, random.u8(..10)) {
        (_, 0) => Value::Null,
        (_, 1) => json!([]),
        (Value::Number(_), 2) => json!(-1),
        (Value::Number(_), 3) => json!(u64::MAX),
        (Value::Number(_), 4) => json!(0),
        (Value::Number(_), 5) => json!(u64::from(u32::MAX)),
        (Value::Number(_), 6) => json!(1_u64 << random.u8(..64)),
        (Value::Number(number), _) => json!(number.as_u64().unwrap_or(0) ^ random.u64(..4096)),
        (Value::String(_), 2) => json!("x".repeat(random.usize(..200_000))),
        (Value::String(_), 3) => json!(""),
        (Value::String(_), _) => json!(EVIL),
        (Value::Bool(is), _) => json!(!is),
        (Value::Null, 2..6) => json!(u64::MAX),
        (Value::Null, _) => json!(EVIL),
        (_, _) => json!({}),
    }
}

/// Every text is [`EVIL`], or every number is the same.
fn everywhere(value: &mut Value, random: &mut Rng) {
    let texts = random.bool();
    let number = [0, 1, u64::from(u16::MAX), u64::MAX][random.usize(..4)];
    set(value, texts, number);
}

fn set(value: &mut Value, texts: bool, number: u64) {
    match value {
        Value::Object(map) => {
            for (key, of) in map.iter_mut().filter(|(key, _)| *key != "schema") {
                // Else it is not read at all.
                if key != "end" {
                    set(of, texts, number);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|of| set(of, texts, number)),
        Value::String(text) if texts => EVIL.clone_into(text),
        Value::Number(_) if !texts => *value = json!(number),
        _ => {}
    }
}
