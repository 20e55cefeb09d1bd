//! Which function an address is in.

use events::Gva;

/// A symbol, as a file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Symbol {
    /// First byte.
    pub(super) at: Gva,
    /// Length; absent where the file has none: it ends where the next one begins.
    pub(super) bytes: Option<u64>,
    /// A function, not data.
    pub(super) is_function: bool,
    /// Seen outside of its own file (`T`, not `t`).
    pub(super) is_global: bool,
    /// Its name as the linker has it.
    pub(super) name: String,
}

/// Functions by address.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    /// By address, one for each.
    starts: Vec<Start>,
    /// Whether the addresses are those of a running kernel.
    is_running: bool,
    offset: u64,
}

#[derive(Clone, Debug)]
struct Start {
    at: Gva,
    end: Gva,
    /// Absent for data.
    name: Option<String>,
}

/// Length of the last function, if the file has none: nothing follows that would end it.
const LAST: u64 = 4096;

impl Symbols {
    /// Of symbols in any order.
    pub(super) fn new(mut symbols: Vec<Symbol>, is_running: bool) -> Self {
        // The best name of each address first.
        symbols.sort_by_key(|symbol| {
            let is_marker = symbol.name.starts_with('_');
            let length = symbol.bytes.unwrap_or(0);
            let worse = (
                !symbol.is_function,
                length == 0,
                !symbol.is_global,
                is_marker,
            );
            (symbol.at, worse)
        });
        symbols.dedup_by_key(|symbol| symbol.at);
        let nexts: Vec<_> = symbols.iter().skip(1).map(|next| next.at).collect();
        let nexts = nexts.into_iter().map(Some).chain([None]);
        let starts = symbols.into_iter().zip(nexts).map(|(symbol, next)| {
            let after = |bytes: u64| Gva(symbol.at.0.saturating_add(bytes));
            let end = match (symbol.bytes.filter(|bytes| *bytes > 0), next) {
                (Some(bytes), Some(next)) => after(bytes).min(next),
                (Some(bytes), None) => after(bytes),
                (None, Some(next)) => next,
                (None, None) => after(LAST),
            };
            Start {
                at: symbol.at,
                end,
                name: symbol.is_function.then_some(symbol.name),
            }
        });
        Self {
            starts: starts.collect(),
            is_running,
            offset: 0,
        }
    }

    /// No symbol at all.
    pub fn is_empty(&self) -> bool {
        !self.starts.iter().any(|start| start.name.is_some())
    }

    /// Functions.
    pub fn functions(&self) -> u64 {
        let functions = self.starts.iter().filter(|start| start.name.is_some());
        functions.count() as u64
    }

    /// The same, `offset` bytes further up.
    pub fn moved(mut self, offset: u64) -> Self {
        self.offset = self.offset.wrapping_add(offset);
        self
    }

    /// How far they were moved.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the addresses are those of a running kernel, not those that it was linked at.
    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    /// Where the symbols of functions begin and end, within `range`.
    pub(super) fn text(&self, range: [Gva; 2]) -> Option<[Gva; 2]> {
        let [from, to] = range;
        let inside = |start: &&Start| start.name.is_some() && start.at >= from && start.at < to;
        let mut functions = self.starts.iter().filter(inside);
        let first = functions.next()?;
        let last = functions.next_back().unwrap_or(first);
        Some([first.at, last.end])
    }

    /// The address of the symbol of this name.
    pub(super) fn address(&self, name: &str) -> Option<Gva> {
        let mut named = self.starts.iter();
        let found = named.find(|start| start.name.as_deref() == Some(name));
        found.map(|start| start.at)
    }

    /// The number of the function that an address is in, see [`Self::name`].
    pub fn find(&self, gva: Gva) -> Option<u64> {
        let at = Gva(gva.0.wrapping_sub(self.offset));
        let after = self.starts.partition_point(|start| start.at <= at);
        let index = after.checked_sub(1)?;
        let start = self.starts.get(index)?;
        (at < start.end && start.name.is_some()).then_some(index as u64)
    }

    /// Address and readable name of a function, by its number.
    pub fn name(&self, function: u64) -> Option<(Gva, String)> {
        let start = self.starts.get(usize::try_from(function).ok()?)?;
        let name = start.name.as_deref()?;
        let at = Gva(start.at.0.wrapping_add(self.offset));
        Some((at, format!("{:#}", rustc_demangle::demangle(name))))
    }

    /// `name+0x1c` of an address, for people: see [`short`].
    pub fn place(&self, gva: Gva) -> Option<String> {
        let (at, name) = self.name(self.find(gva)?)?;
        let offset = gva.0.wrapping_sub(at.0);
        Some(format!("{}+{offset:#x}", short(&name)))
    }
}

/// Longest name that people are shown.
const SHORT: usize = 44;

/// A name for people: that of a generic function of Rust may be hundreds of characters long.
pub fn short(name: &str) -> String {
    if name.chars().count() <= SHORT {
        return name.to_owned();
    }
    let head: String = name.chars().take(SHORT - 3).collect();
    format!("{head}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(at: u64, bytes: Option<u64>, name: &str) -> Symbol {
        Symbol {
            at: Gva(at),
            bytes,
            is_function: !name.starts_with("data"),
            is_global: !name.starts_with("local"),
            name: name.to_owned(),
        }
    }

    #[test]
    fn an_address_is_in_the_function_that_begins_last_before_it() {
        let symbols = Symbols::new(
            vec![
                symbol(0x2000, None, "second"),
                symbol(0x1000, Some(0x10), "first"),
                symbol(0x1000, None, "_marker"),
                symbol(0x1000, Some(0x10), "local"),
                symbol(0x3000, None, "data"),
            ],
            false,
        );
        let found = |at| symbols.place(Gva(at));
        assert_eq!(found(0x1000).as_deref(), Some("first+0x0"));
        assert_eq!(found(0x100f).as_deref(), Some("first+0xf"));
        assert_eq!(found(0x1010), None, "past its end");
        assert_eq!(found(0x2fff).as_deref(), Some("second+0xfff"));
        assert_eq!(found(0x3000), None, "data");
        assert_eq!(found(0xfff), None, "before the first");
        assert_eq!(symbols.functions(), 2);
        let moved = symbols.moved(0x100000);
        assert_eq!(moved.place(Gva(0x10_1001)).as_deref(), Some("first+0x1"));
    }

    #[test]
    fn names_of_rust_are_readable() {
        let name = "_ZN6guests4work5touch17h0123456789abcdefE";
        let symbols = Symbols::new(vec![symbol(0x1000, Some(8), name)], false);
        assert_eq!(
            symbols.place(Gva(0x1004)).as_deref(),
            Some("guests::work::touch+0x4")
        );
    }
}
