//! Names on the command line: the help lists them, and an unknown one is answered with the nearest.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use events::{Cause, Class};

/// A class of faults.
pub(super) fn class() -> impl TypedValueParser<Value = Class> {
    PossibleValuesParser::new(Class::ALL.map(Class::name))
        .try_map(|name| Class::from_name(&name).ok_or("not the name of a class"))
}

/// A cause of changes.
pub(super) fn cause() -> impl TypedValueParser<Value = Cause> {
    PossibleValuesParser::new(Cause::ALL.map(Cause::name))
        .try_map(|name| Cause::from_name(&name).ok_or("not the name of a cause"))
}
