//! Prototypes of functions and tracepoints.

use btf_rs::{Btf, BtfType, FuncProto, Type};

use super::{CHAIN, KernelTypes, unqualified};

/// A function's prototype. Its being here does not mean that it can be probed: BTF also lists
/// functions that are inlined everywhere, or of which only a clone is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// In order.
    pub parameters: Vec<Parameter>,
    /// Type of what it returns, as C has it.
    pub returns: String,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in the source.
    pub name: String,
    /// Its type as C has it: `struct kvm_vcpu *`, `const u8 *`, `gpa_t`.
    pub type_name: String,
}

impl Function {
    /// Number of the parameter so called, from 0.
    pub fn argument(&self, name: &str) -> Option<usize> {
        self.parameters
            .iter()
            .position(|parameter| parameter.name == name)
    }
}

impl KernelTypes {
    /// A function of KVM, or one of vmlinux if KVM has none so called.
    pub fn function(&self, name: &str) -> Option<Function> {
        self.types(name).find_map(|(part, found)| {
            let Type::Func(function) = found else {
                return None;
            };
            let prototype = prototype(part, function.get_type_id()?)?;
            let parameters = prototype.parameters.iter().map(|parameter| {
                Some(Parameter {
                    name: part.resolve_name(parameter).ok()?,
                    type_name: type_name(part, parameter.get_type_id()?, CHAIN)?,
                })
            });
            Some(Function {
                parameters: parameters.collect::<Option<_>>()?,
                returns: type_name(part, prototype.return_type_id(), CHAIN)?,
            })
        })
    }

    /// How many arguments a raw tracepoint program gets.
    pub fn tracepoint(&self, name: &str) -> Option<usize> {
        self.types(&format!("btf_trace_{name}"))
            .find_map(|(part, found)| {
                let Type::Typedef(pointer) = found else {
                    return None;
                };
                let Type::Ptr(pointer) = unqualified(part, pointer.get_type_id()?)? else {
                    return None;
                };
                // The first parameter is the probe's own data, which programs do not see.
                prototype(part, pointer.get_type_id()?)?
                    .parameters
                    .len()
                    .checked_sub(1)
            })
    }
}

fn prototype(part: &Btf, id: u32) -> Option<FuncProto> {
    match part.resolve_type_by_id(id) {
        Ok(Type::FuncProto(prototype)) => Some(prototype),
        _ => None,
    }
}

/// A type as C has it; of a pointer to a function only that it is one.
fn type_name(part: &Btf, id: u32, longest: usize) -> Option<String> {
    let longest = longest.checked_sub(1)?;
    let found = part.resolve_type_by_id(id).ok()?;
    let target = || type_name(part, found.as_btf_type()?.get_type_id()?, longest);
    let own = || part.resolve_name(found.as_btf_type()?).ok();
    Some(match &found {
        Type::Void => "void".to_owned(),
        Type::Ptr(_) => pointer(&target()?),
        Type::Const(_) => qualified(&target()?, "const"),
        Type::Volatile(_) => qualified(&target()?, "volatile"),
        // These two say nothing of the value's shape.
        Type::Restrict(_) | Type::TypeTag(_) => target()?,
        Type::Array(array) => format!("{}[{}]", target()?, array.len()),
        Type::Struct(_) => format!("struct {}", own()?),
        Type::Union(_) => format!("union {}", own()?),
        Type::Fwd(fwd) if fwd.is_union() => format!("union {}", own()?),
        Type::Fwd(_) => format!("struct {}", own()?),
        Type::Enum(_) | Type::Enum64(_) => format!("enum {}", own()?),
        Type::FuncProto(_) => "function".to_owned(),
        _ => own()?,
    })
}

fn pointer(to: &str) -> String {
    let space = if to.ends_with('*') { "" } else { " " };
    format!("{to}{space}*")
}

/// C has the qualifier of a pointer behind the star.
fn qualified(what: &str, qualifier: &str) -> String {
    if what.ends_with('*') {
        format!("{what} {qualifier}")
    } else {
        format!("{qualifier} {what}")
    }
}
