//! One type as it is in the file: twelve bytes, then words by its kind
//! (Documentation/bpf/btf.rst).

use anyhow::{Result, bail};

/// What a type is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Also floats: nothing but a name and a size.
    Scalar,
    Pointer,
    Array,
    /// Or a union.
    Struct,
    Enum,
    Enum64,
    Forward,
    /// Another name or a qualifier for one other type.
    Alias,
    Function,
    Prototype,
    /// Variables, sections and tags: no other type refers to them, so they are never kept.
    Unreferenced,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub name: u32,
    pub info: u32,
    pub size_or_type: u32,
    pub rest: Vec<u32>,
}

impl Entry {
    /// Parses one type and advances `words`.
    pub fn parse(words: &mut &[u32]) -> Result<Self> {
        let [name, info, size_or_type, after @ ..] = *words else {
            bail!("a type is cut off");
        };
        let mut entry = Self {
            name: *name,
            info: *info,
            size_or_type: *size_or_type,
            rest: Vec::new(),
        };
        let Some((rest, after)) = after.split_at_checked(entry.words()?) else {
            bail!("the members of a type are cut off");
        };
        entry.rest = rest.to_vec();
        *words = after;
        Ok(entry)
    }

    fn number(&self) -> u32 {
        self.info >> 24 & 0x1f
    }

    pub fn is_union(&self) -> bool {
        self.number() == 5
    }

    pub fn kind(&self) -> Kind {
        match self.number() {
            2 => Kind::Pointer,
            3 => Kind::Array,
            4 | 5 => Kind::Struct,
            6 => Kind::Enum,
            7 => Kind::Forward,
            8..=11 | 18 => Kind::Alias,
            12 => Kind::Function,
            13 => Kind::Prototype,
            14 | 15 | 17 => Kind::Unreferenced,
            19 => Kind::Enum64,
            _ => Kind::Scalar,
        }
    }

    /// How many words follow the first three.
    fn words(&self) -> Result<usize> {
        let members = (self.info & 0xffff) as usize;
        Ok(match self.number() {
            1 | 14 | 17 => 1,
            2 | 7..=12 | 16 | 18 => 0,
            3 => 3,
            4 | 5 | 15 | 19 => 3 * members,
            6 | 13 => 2 * members,
            other => bail!("a type of unknown kind {other}"),
        })
    }

    /// Words for each member, enumerator or parameter; the first is its name.
    pub fn stride(&self) -> Option<usize> {
        match self.kind() {
            Kind::Struct | Kind::Enum64 => Some(3),
            Kind::Enum | Kind::Prototype => Some(2),
            _ => None,
        }
    }

    /// Every word that is the offset of a name.
    pub fn names(&mut self) -> Vec<&mut u32> {
        let mut names = Vec::new();
        if let Some(stride) = self.stride() {
            names.extend(self.rest.iter_mut().step_by(stride));
        }
        names.push(&mut self.name);
        names
    }

    /// Every word that is the id of a type.
    pub fn ids(&mut self) -> Vec<&mut u32> {
        match self.kind() {
            Kind::Pointer | Kind::Alias | Kind::Function => vec![&mut self.size_or_type],
            Kind::Array => self.rest.iter_mut().take(2).collect(),
            Kind::Struct => self.rest.iter_mut().skip(1).step_by(3).collect(),
            Kind::Prototype => {
                let mut ids = vec![&mut self.size_or_type];
                ids.extend(self.rest.iter_mut().skip(1).step_by(2));
                ids
            }
            _ => Vec::new(),
        }
    }

    /// The same struct, of which only the name is known.
    pub fn forward(&self) -> Self {
        Self {
            name: self.name,
            info: 7 << 24 | u32::from(self.is_union()) << 31,
            size_or_type: 0,
            rest: Vec::new(),
        }
    }

    /// The same struct without its members.
    pub fn opaque(&self) -> Self {
        Self {
            info: self.number() << 24,
            rest: Vec::new(),
            ..*self
        }
    }
}
