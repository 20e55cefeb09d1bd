//! The stack of the eBPF programs, which the verifier limits over all calls. Later kernels round
//! each frame to 16 bytes, Linux 6.1 to 32: this counts as Linux 6.1 does, on any machine.

use std::collections::{BTreeMap, BTreeSet};

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};

use super::object::OBJECT;

/// `MAX_BPF_STACK`.
const MOST: u32 = 512;
/// What a frame is rounded up to (`check_max_stack_depth`).
const ROUNDED: u32 = 32;
/// R10, the frame pointer.
const FRAME_POINTER: u8 = 10;

/// Section and address of a function.
type Place = (usize, u64);

/// A function of the object.
#[derive(Debug, Default)]
struct Function {
    name: String,
    /// Bytes of its frame.
    frame: u32,
    /// Functions that it calls, or passes to a helper.
    calls: BTreeSet<Place>,
}

/// One instruction (`struct bpf_insn`).
struct Instruction {
    code: u8,
    dst: u8,
    src: u8,
    offset: i32,
    immediate: i32,
}

impl Instruction {
    /// 64-bit immediate, which takes two instructions.
    const LOAD: u8 = 0x18;
    const CALL: u8 = 0x85;
    const MOVE: u8 = 0xbf;
    const ADD: u8 = 0x07;

    fn of(bytes: &[u8]) -> Self {
        Self {
            code: bytes[0],
            dst: bytes[1] & 15,
            src: bytes[1] >> 4,
            offset: i16::from_le_bytes([bytes[2], bytes[3]]).into(),
            immediate: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    /// The offset from the frame pointer that it loads from or stores to.
    fn on_stack(&self) -> Option<i32> {
        // Classes LDX; ST and STX.
        let base = match self.code & 7 {
            1 => self.src,
            2 | 3 => self.dst,
            _ => return None,
        };
        (base == FRAME_POINTER).then_some(self.offset)
    }
}

/// Bytes of the frame that these instructions use: what they load and store there, and the
/// addresses that they make.
fn frame(instructions: impl Iterator<Item = Instruction>) -> u32 {
    let mut lowest = 0;
    // Registers that hold an address on the stack.
    let mut held: BTreeMap<u8, i32> = BTreeMap::new();
    for instruction in instructions {
        let Instruction { code, dst, src, .. } = instruction;
        lowest = lowest.min(instruction.on_stack().unwrap_or(0));
        match (code, held.get(&dst).copied()) {
            (Instruction::MOVE, _) if src == FRAME_POINTER => drop(held.insert(dst, 0)),
            (Instruction::MOVE, _) => match held.get(&src).copied() {
                Some(at) => drop(held.insert(dst, at)),
                None => drop(held.remove(&dst)),
            },
            (Instruction::ADD, Some(at)) => {
                held.insert(dst, at + instruction.immediate);
                lowest = lowest.min(at + instruction.immediate);
            }
            // Loads and arithmetic.
            (code, _) if matches!(code & 7, 0 | 1 | 4 | 7) => drop(held.remove(&dst)),
            _ => {}
        }
    }
    lowest.unsigned_abs()
}

fn functions(elf: &object::File<'_>) -> BTreeMap<Place, Function> {
    let mut functions = BTreeMap::new();
    for symbol in elf.symbols().filter(|one| one.kind() == SymbolKind::Text) {
        let index = symbol.section_index().expect("a function has a section");
        let section = elf.section_by_index(index).expect("of this file");
        let code = section.data_range(symbol.address(), symbol.size());
        let code = code.expect("readable").expect("within the section");
        let instructions = || code.chunks_exact(8).map(Instruction::of);
        let mut function = Function {
            name: symbol.name().expect("UTF-8").to_owned(),
            frame: frame(instructions()),
            calls: BTreeSet::new(),
        };
        let relocated: BTreeMap<u64, _> = section.relocations().collect();
        for (number, instruction) in (0..).zip(instructions()) {
            let at = symbol.address() + 8 * number;
            let target = relocated.get(&at).map(|relocation| relocation.target());
            let called = match (instruction.code, target) {
                (Instruction::CALL | Instruction::LOAD, Some(RelocationTarget::Symbol(index))) => {
                    let of = elf.symbol_by_index(index).expect("of this file");
                    let section = of.section_index().map(|section| section.0);
                    // A call of a section names the place in it.
                    let within = match of.kind() {
                        SymbolKind::Section => 8 * (i64::from(instruction.immediate) + 1),
                        _ => 0,
                    };
                    section.map(|section| (section, of.address().wrapping_add_signed(within)))
                }
                (Instruction::CALL, None) if instruction.src == 1 => {
                    let next = 8 * (i64::from(instruction.immediate) + 1);
                    Some((index.0, at.wrapping_add_signed(next)))
                }
                _ => None,
            };
            function.calls.extend(called);
        }
        functions.insert((index.0, symbol.address()), function);
    }
    functions
}

/// The deepest chain of calls from here, in bytes, and its functions.
fn deepest(functions: &BTreeMap<Place, Function>, from: Place) -> (u32, Vec<String>) {
    // A map or a constant is loaded in the same way, and is no function.
    let Some(function) = functions.get(&from) else {
        return (0, Vec::new());
    };
    let calls = function.calls.iter().map(|&call| deepest(functions, call));
    let (below, mut names) = calls.max_by_key(|(bytes, _)| *bytes).unwrap_or_default();
    names.insert(0, format!("{} ({})", function.name, function.frame));
    (
        function.frame.max(1).next_multiple_of(ROUNDED) + below,
        names,
    )
}

#[test]
fn no_chain_of_calls_needs_more_stack_than_linux_6_1_grants() {
    let elf = object::File::parse(OBJECT).expect("ELF");
    let functions = functions(&elf);
    let deepest = functions.keys().map(|&place| deepest(&functions, place));
    let (bytes, names) = deepest.max_by_key(|(bytes, _)| *bytes).expect("functions");
    // Much less would mean that this test reads the object wrongly.
    assert!((MOST / 2..=MOST).contains(&bytes), "{bytes}: {names:#?}");
    let spilled = functions.values().filter(|function| function.frame > 0);
    assert!(spilled.count() > 10);
}
