//! BTF as the kernel writes it (`Documentation/bpf/btf.rst`, `include/uapi/linux/btf.h`), that of
//! modules included: their ids and names continue where vmlinux's end ("split BTF").
//!
//! Any bytes give types or an error. Lengths are checked once, when the bytes are read; ids and
//! names when they are followed. Nothing in here panics, and no chain of types is followed without
//! a bound.

use std::{collections::HashMap, sync::Arc};

/// `BTF_MAGIC` in the byte order of x86-64.
const MAGIC: u16 = 0xeb9f;
/// Bytes of the header that this reader knows; a longer one is skipped.
const HEADER: usize = 24;
/// Longest chain of typedefs, qualifiers and pointers that is followed; the kernel has six.
pub(super) const LONGEST_CHAIN: usize = 32;

/// Why bytes are not BTF.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The header is cut off.
    #[error("{0} bytes are shorter than a header")]
    Short(usize),
    /// Something else, or BTF of a machine with another byte order.
    #[error("it begins with {magic:#06x} and version {version}, not with 0xeb9f and version 1")]
    Magic {
        /// The first two bytes.
        magic: u16,
        /// The third.
        version: u8,
    },
    /// A section lies outside of the bytes.
    #[error("its {0} are cut off")]
    Cut(&'static str),
    /// A type of a kind that this reader does not know, so that it cannot know its length either.
    #[error("type {id} is of the unknown kind {kind}")]
    Kind {
        /// The type.
        id: u32,
        /// The number.
        kind: u32,
    },
    /// A type has a name that is in no table of names.
    #[error("type {id} has its name at {offset}, where there is none")]
    Name {
        /// The type.
        id: u32,
        /// Where the name should be.
        offset: u32,
    },
}

/// What a type is: `BTF_KIND_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No type at all: what a function without a result returns. Id 0, never in the bytes.
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    /// A struct or union of which only the name is known.
    Forward,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    DataSec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    const fn from_raw(raw: u32) -> Option<Self> {
        Some(match raw {
            1 => Self::Int,
            2 => Self::Ptr,
            3 => Self::Array,
            4 => Self::Struct,
            5 => Self::Union,
            6 => Self::Enum,
            7 => Self::Forward,
            8 => Self::Typedef,
            9 => Self::Volatile,
            10 => Self::Const,
            11 => Self::Restrict,
            12 => Self::Func,
            13 => Self::FuncProto,
            14 => Self::Var,
            15 => Self::DataSec,
            16 => Self::Float,
            17 => Self::DeclTag,
            18 => Self::TypeTag,
            19 => Self::Enum64,
            _ => return None,
        })
    }

    /// Words after the three that every type has: once, and for each of its members.
    const fn words(self) -> (usize, usize) {
        match self {
            Self::Int | Self::Var | Self::DeclTag => (1, 0),
            Self::Array => (3, 0),
            Self::Struct | Self::Union | Self::DataSec | Self::Enum64 => (0, 3),
            Self::Enum | Self::FuncProto => (0, 2),
            _ => (0, 0),
        }
    }
}

/// Types and names of vmlinux or of one module.
struct Section {
    /// Id of the first type.
    first_id: u32,
    /// Offset of the first byte of `names`.
    first_name: u32,
    words: Vec<u32>,
    /// Where each type begins in `words`.
    starts: Vec<usize>,
    names: Vec<u8>,
}

/// The types of vmlinux, or of a module together with those of vmlinux.
pub struct Btf {
    own: Arc<Section>,
    /// Of a module: vmlinux's.
    base: Option<Arc<Section>>,
    /// Ids of this part's own types by name.
    by_name: HashMap<String, Vec<u32>>,
}

impl Btf {
    /// vmlinux's.
    pub fn parse(bytes: &[u8]) -> Result<Self, FormatError> {
        Self::new(Section::parse(bytes, 1, 0)?, None)
    }

    /// A module's, which continues that of vmlinux.
    pub fn parse_split(bytes: &[u8], vmlinux: &Btf) -> Result<Self, FormatError> {
        let base = &vmlinux.own;
        let section = Section::parse(bytes, base.end_id(), base.end_name())?;
        Self::new(section, Some(Arc::clone(base)))
    }

    fn new(own: Section, base: Option<Arc<Section>>) -> Result<Self, FormatError> {
        let mut btf = Self {
            own: Arc::new(own),
            base,
            by_name: HashMap::new(),
        };
        let mut by_name: HashMap<String, Vec<u32>> = HashMap::new();
        for id in btf.own.first_id..btf.own.end_id() {
            let Some(found) = btf.get(id) else { continue };
            let name = found.name().ok_or(FormatError::Name {
                id,
                offset: found.name,
            })?;
            if !name.is_empty() {
                by_name.entry(name.to_owned()).or_default().push(id);
            }
        }
        btf.by_name = by_name;
        Ok(btf)
    }

    /// The type with this id.
    pub fn get(&self, id: u32) -> Option<Type<'_>> {
        if id == 0 {
            return Some(Type {
                btf: self,
                kind: Kind::Void,
                name: 0,
                info: 0,
                size_or_type: 0,
                rest: &[],
            });
        }
        match &self.base {
            Some(base) if id < self.own.first_id => base.get(self, id),
            _ => self.own.get(self, id),
        }
    }

    /// This part's own types with this name, in the order of their ids.
    pub fn named(&self, name: &str) -> impl Iterator<Item = Type<'_>> {
        let ids = self.by_name.get(name).map_or(&[][..], Vec::as_slice);
        ids.iter().filter_map(|id| self.get(*id))
    }

    fn name(&self, offset: u32) -> Option<&str> {
        match &self.base {
            Some(base) if offset < self.own.first_name => base.name(offset),
            _ => self.own.name(offset),
        }
    }
}

impl Section {
    fn parse(bytes: &[u8], first_id: u32, first_name: u32) -> Result<Self, FormatError> {
        let header = bytes
            .first_chunk::<HEADER>()
            .ok_or(FormatError::Short(bytes.len()))?;
        let &[m0, m1, version, _flags, ref lengths @ ..] = header;
        let magic = u16::from_le_bytes([m0, m1]);
        if magic != MAGIC || version != 1 {
            return Err(FormatError::Magic { magic, version });
        }
        let lengths = words(lengths);
        let &[header, types_at, types_length, names_at, names_length] = lengths.as_slice() else {
            return Err(FormatError::Short(bytes.len()));
        };
        let section = |at: u32, length: u32, what| {
            slice(bytes, [header, at], length).ok_or(FormatError::Cut(what))
        };
        let words = words(section(types_at, types_length, "types")?);
        let names = section(names_at, names_length, "names")?.to_vec();
        let mut section = Self {
            first_id,
            first_name,
            words,
            starts: Vec::new(),
            names,
        };
        section.starts = section.find_starts()?;
        Ok(section)
    }

    fn find_starts(&self) -> Result<Vec<usize>, FormatError> {
        let mut starts = Vec::new();
        let mut at = 0;
        let mut id = self.first_id;
        while at < self.words.len() {
            let cut = FormatError::Cut("types");
            let info = *self.words.get(at + 1).ok_or(cut)?;
            let kind = kind(info);
            let kind_of = Kind::from_raw(kind).ok_or(FormatError::Kind { id, kind })?;
            let end = at + 3 + words_after(kind_of, info);
            if end > self.words.len() {
                return Err(cut);
            }
            starts.push(at);
            at = end;
            id = id.checked_add(1).ok_or(cut)?;
        }
        Ok(starts)
    }

    /// The id after the last one.
    fn end_id(&self) -> u32 {
        let count = u32::try_from(self.starts.len()).unwrap_or(u32::MAX);
        self.first_id.saturating_add(count)
    }

    /// The offset after the last name.
    fn end_name(&self) -> u32 {
        let length = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.first_name.saturating_add(length)
    }

    fn get<'a>(&'a self, btf: &'a Btf, id: u32) -> Option<Type<'a>> {
        let index = usize::try_from(id.checked_sub(self.first_id)?).ok()?;
        let words = self.words.get(*self.starts.get(index)?..)?;
        let &[name, info, size_or_type, ref after @ ..] = words else {
            return None;
        };
        let kind = Kind::from_raw(kind(info))?;
        Some(Type {
            btf,
            kind,
            name,
            info,
            size_or_type,
            rest: after.get(..words_after(kind, info))?,
        })
    }

    fn name(&self, offset: u32) -> Option<&str> {
        let offset = usize::try_from(offset.checked_sub(self.first_name)?).ok()?;
        let bytes = self.names.get(offset..)?;
        let end = bytes.iter().position(|&byte| byte == 0)?;
        str::from_utf8(bytes.get(..end)?).ok()
    }
}

/// Words of a type after its first three.
fn words_after(kind: Kind, info: u32) -> usize {
    let (once, each) = kind.words();
    let [low, high, ..] = info.to_le_bytes();
    once + each * usize::from(u16::from_le_bytes([low, high]))
}

const fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn words(bytes: &[u8]) -> Vec<u32> {
    let (words, _) = bytes.as_chunks();
    words.iter().map(|&word| u32::from_le_bytes(word)).collect()
}

/// `length` bytes from the sum of `at`.
fn slice(bytes: &[u8], at: [u32; 2], length: u32) -> Option<&[u8]> {
    let [a, b] = at;
    let start = usize::try_from(a.checked_add(b)?).ok()?;
    let length = usize::try_from(length).ok()?;
    bytes.get(start..start.checked_add(length)?)
}

/// One type.
#[derive(Clone, Copy)]
pub struct Type<'a> {
    btf: &'a Btf,
    kind: Kind,
    name: u32,
    info: u32,
    size_or_type: u32,
    rest: &'a [u32],
}

/// A member of a struct or union.
#[derive(Clone, Copy)]
pub struct Member<'a> {
    /// Empty for an anonymous one.
    pub name: &'a str,
    /// Id of its type.
    pub id: u32,
    /// From the start of the struct.
    pub bits: u32,
    /// Width in bits, for a bit-field.
    pub width: Option<u32>,
}

impl<'a> Type<'a> {
    /// What it is.
    pub fn kind(self) -> Kind {
        self.kind
    }

    /// Its name; empty for one without.
    pub fn name(self) -> Option<&'a str> {
        self.btf.name(self.name)
    }

    /// Bytes of a number, a struct or a union.
    pub fn size(self) -> Option<u32> {
        match self.kind {
            Kind::Int | Kind::Float | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 => {
                Some(self.size_or_type)
            }
            _ => None,
        }
    }

    /// The type with this id, in the same part.
    pub fn other(self, id: u32) -> Option<Type<'a>> {
        self.btf.get(id)
    }

    /// What it points to, qualifies, names, is made of, or returns.
    pub fn target(self) -> Option<Type<'a>> {
        match self.kind {
            Kind::Ptr
            | Kind::Typedef
            | Kind::Volatile
            | Kind::Const
            | Kind::Restrict
            | Kind::TypeTag
            | Kind::Func
            | Kind::FuncProto => self.other(self.size_or_type),
            Kind::Array => self.other(*self.rest.first()?),
            _ => None,
        }
    }

    /// The type that typedefs and qualifiers lead to.
    pub fn unqualified(self) -> Option<Type<'a>> {
        let mut found = self;
        for _ in 0..LONGEST_CHAIN {
            match found.kind {
                Kind::Typedef | Kind::Const | Kind::Volatile | Kind::Restrict | Kind::TypeTag => {
                    found = found.target()?
                }
                _ => return Some(found),
            }
        }
        None
    }

    /// Elements of an array.
    pub fn elements(self) -> Option<u32> {
        match self.kind {
            Kind::Array => self.rest.get(2).copied(),
            _ => None,
        }
    }

    /// Whether a forward declaration is a union's.
    pub fn is_forward_of_union(self) -> bool {
        self.kind == Kind::Forward && self.flag()
    }

    /// The members of a struct or union whose names are there; none of anything else.
    pub fn members(self) -> impl Iterator<Item = Member<'a>> {
        let words = match self.kind {
            Kind::Struct | Kind::Union => self.rest,
            _ => &[],
        };
        let (members, _) = words.as_chunks();
        members.iter().filter_map(move |&[name, id, place]| {
            let (bits, width) = match self.flag() {
                true => (place & 0x00ff_ffff, place >> 24),
                false => (place, 0),
            };
            Some(Member {
                name: self.btf.name(name)?,
                id,
                bits,
                width: (width > 0).then_some(width),
            })
        })
    }

    /// Names and types of a prototype's parameters; `None` for what is no prototype. An item is
    /// `None` if its name is missing.
    pub fn parameters(self) -> Option<impl ExactSizeIterator<Item = Option<(&'a str, u32)>>> {
        let (parameters, _) = match self.kind {
            Kind::FuncProto => self.rest.as_chunks(),
            _ => return None,
        };
        let named = move |&[name, id]: &[u32; 2]| Some((self.btf.name(name)?, id));
        Some(parameters.iter().map(named))
    }

    /// `kind_flag`.
    fn flag(self) -> bool {
        self.info >> 31 != 0
    }
}
