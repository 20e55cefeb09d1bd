//! Prototypes of functions and tracepoints.

use super::{
    KernelTypes,
    format::{Kind, LONGEST_CHAIN, Type},
};

/// A function's prototype. That BTF has it does not mean that it can be probed: BTF also lists
/// functions that are inlined everywhere, or of which only a clone is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// In order.
    pub parameters: Vec<Parameter>,
    /// Type of what it returns, in C.
    pub returns: String,
}

/// A parameter of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its name in the source.
    pub name: String,
    /// Its type in C: `struct kvm_vcpu *`, `const u8 *`, `gpa_t`.
    pub type_name: String,
}

impl Function {
    /// Number of the parameter with this name, from 0.
    pub fn argument(&self, name: &str) -> Option<usize> {
        self.parameters
            .iter()
            .position(|parameter| parameter.name == name)
    }
}

impl KernelTypes {
    /// KVM's function with this name, or vmlinux's if KVM has none.
    pub fn function(&self, name: &str) -> Option<Function> {
        self.types(name)
            .filter(|found| found.kind() == Kind::Func)
            .find_map(|function| {
                let prototype = function.target()?;
                let parameters = prototype.parameters()?.map(|parameter| {
                    let (name, id) = parameter?;
                    Some(Parameter {
                        name: name.to_owned(),
                        type_name: type_name(prototype.other(id)?, LONGEST_CHAIN)?,
                    })
                });
                Some(Function {
                    parameters: parameters.collect::<Option<_>>()?,
                    returns: type_name(prototype.target()?, LONGEST_CHAIN)?,
                })
            })
    }

    /// How many arguments a raw tracepoint program gets.
    pub fn tracepoint(&self, name: &str) -> Option<usize> {
        self.types(&format!("btf_trace_{name}"))
            .filter(|found| found.kind() == Kind::Typedef)
            .find_map(|typedef| {
                let pointer = typedef.unqualified()?;
                if pointer.kind() != Kind::Ptr {
                    return None;
                }
                // The first parameter is the probe's own data, which programs do not see.
                pointer.target()?.parameters()?.len().checked_sub(1)
            })
    }
}

/// A type in C; a pointer to a function is only called that.
fn type_name(found: Type<'_>, longest: usize) -> Option<String> {
    let longest = longest.checked_sub(1)?;
    let target = || type_name(found.target()?, longest);
    let own = || found.name();
    Some(match found.kind() {
        Kind::Void => "void".to_owned(),
        Kind::Ptr => pointer(&target()?),
        Kind::Const => qualified(&target()?, "const"),
        Kind::Volatile => qualified(&target()?, "volatile"),
        // These two do not change the value's shape.
        Kind::Restrict | Kind::TypeTag => target()?,
        Kind::Array => format!("{}[{}]", target()?, found.elements()?),
        Kind::Struct => format!("struct {}", own()?),
        Kind::Union => format!("union {}", own()?),
        Kind::Forward if found.is_forward_of_union() => format!("union {}", own()?),
        Kind::Forward => format!("struct {}", own()?),
        Kind::Enum | Kind::Enum64 => format!("enum {}", own()?),
        Kind::FuncProto => "function".to_owned(),
        _ => own()?.to_owned(),
    })
}

fn pointer(to: &str) -> String {
    let space = if to.ends_with('*') { "" } else { " " };
    format!("{to}{space}*")
}

/// In C the qualifier of a pointer comes after the star.
fn qualified(what: &str, qualifier: &str) -> String {
    if what.ends_with('*') {
        format!("{what} {qualifier}")
    } else {
        format!("{qualifier} {what}")
    }
}
