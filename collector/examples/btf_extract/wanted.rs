//! What to keep.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use crate::{
    entry::{Entry, Kind},
    kernel::{Kernel, word},
};

#[derive(Default)]
pub struct Wanted {
    /// With the members to keep; all, if none is named.
    structs: BTreeMap<String, BTreeSet<String>>,
    functions: BTreeSet<String>,
    typedefs: BTreeSet<String>,
}

impl Wanted {
    pub fn parse(text: &str) -> Result<Self> {
        let mut wanted = Self::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [] => {}
                ["struct", name, ref members @ ..] => {
                    let members = members.iter().map(|&member| member.to_owned()).collect();
                    wanted.structs.insert(name.to_owned(), members);
                }
                ["function", name] => _ = wanted.functions.insert(name.to_owned()),
                ["tracepoint", name] => _ = wanted.typedefs.insert(format!("btf_trace_{name}")),
                _ => bail!("not understood: {line}"),
            }
        }
        Ok(wanted)
    }

    /// Takes away the members that nobody wants.
    pub fn trim(&self, kernel: &mut Kernel) -> Result<()> {
        for section in 0..kernel.sections.len() {
            for index in 0..kernel.sections[section].types.len() {
                let entry = &kernel.sections[section].types[index];
                let name = kernel.name(section, entry.name)?;
                let Some(members) = self
                    .structs
                    .get(name)
                    .filter(|members| entry.kind() == Kind::Struct && !members.is_empty())
                else {
                    continue;
                };
                let mut rest = Vec::new();
                for member in entry.rest.chunks(3) {
                    if members.contains(kernel.name(section, member[0])?) {
                        rest.extend(member);
                    }
                }
                let entry = &mut kernel.sections[section].types[index];
                entry.info = (entry.info & !0xffff) | word(rest.len() / 3)?;
                entry.rest = rest;
            }
        }
        Ok(())
    }

    /// Whether this type is wanted for itself.
    pub fn has(&self, kernel: &Kernel, section: usize, entry: &Entry) -> Result<bool> {
        let name = kernel.name(section, entry.name)?;
        Ok(match entry.kind() {
            Kind::Struct => self.structs.contains_key(name),
            Kind::Function => self.functions.contains(name),
            Kind::Alias => self.typedefs.contains(name),
            _ => false,
        })
    }
}
