//! Numbers on the command line.

use events::{Gva, Hpa};

/// A hexadecimal number with `0x`, `_` allowed between digits. A number without `0x` is refused:
/// `8000001000` could be read in two ways, and addresses are written in hexadecimal everywhere.
fn hexadecimal(text: &str) -> Result<u64, String> {
    let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) else {
        return Err(match u64::from_str_radix(&text.replace('_', ""), 16) {
            Ok(_) => format!("an address is hexadecimal and begins with 0x: 0x{text}"),
            Err(_) => "an address is hexadecimal and begins with 0x, like 0x400000".to_owned(),
        });
    };
    u64::from_str_radix(&digits.replace('_', ""), 16)
        .map_err(|error| format!("not a hexadecimal address of at most 64 bits: {error}"))
}

/// A guest-virtual address.
pub(super) fn gva(text: &str) -> Result<Gva, String> {
    hexadecimal(text).map(Gva)
}

/// A host-physical address.
pub(super) fn hpa(text: &str) -> Result<Hpa, String> {
    hexadecimal(text).map(Hpa)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_0x_and_the_message_shows_it() {
        assert_eq!(gva("0x80_0000_1000"), Ok(Gva(0x80_0000_1000)));
        assert_eq!(hpa("0XfF"), Ok(Hpa(0xff)));
        let refused = |text| gva(text).unwrap_err();
        assert_eq!(
            refused("8000001000"),
            "an address is hexadecimal and begins with 0x: 0x8000001000"
        );
        assert!(refused("lunch").contains("like 0x400000"));
        assert!(refused("0x1ffffffffffffffff").contains("at most 64 bits"));
    }
}
