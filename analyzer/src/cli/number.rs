//! Numbers on the command line.

use events::{Gfn, Gpa, Gva, Hpa};

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

/// The number of a record, as the tables print it (`46,885`) or not.
pub(super) fn seq(text: &str) -> Result<u64, String> {
    let number = text.replace(',', "").parse();
    number.map_err(|_| "expected the number of a record, like 46885 or 46,885".to_owned())
}

/// A guest-virtual address.
pub(super) fn gva(text: &str) -> Result<Gva, String> {
    hexadecimal(text).map(Gva)
}

/// Addresses from one to another, the last included: `0x1000..0x3000` ends before `0x3000`, and an
/// address alone means its 4 KiB page.
pub(super) fn gvas(text: &str) -> Result<[Gva; 2], String> {
    let Some((from, to)) = text.split_once("..") else {
        let page = gva(text)?.0 & !0xfff;
        return Ok([Gva(page), Gva(page | 0xfff)]);
    };
    let (from, to) = (gva(from)?, gva(to)?);
    match to.0.checked_sub(1).filter(|last| *last >= from.0) {
        Some(last) => Ok([from, Gva(last)]),
        None => Err("the range ends before it begins".to_owned()),
    }
}

/// A guest-physical address.
pub(super) fn gpa(text: &str) -> Result<Gpa, String> {
    hexadecimal(text).map(Gpa)
}

/// A guest frame.
pub(super) fn gfn(text: &str) -> Result<Gfn, String> {
    hexadecimal(text).map(Gfn)
}

/// A number of bytes: a distance.
pub(super) fn offset(text: &str) -> Result<u64, String> {
    hexadecimal(text)
}

/// A host-physical address.
pub(super) fn hpa(text: &str) -> Result<Hpa, String> {
    hexadecimal(text).map(Hpa)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_named_as_the_tables_print_it() {
        assert_eq!(seq("46885"), Ok(46_885));
        assert_eq!(seq("1,046,885"), Ok(1_046_885));
        assert!(seq("").is_err() && seq("0x10").is_err() && seq("-1").is_err());
    }

    #[test]
    fn an_address_needs_0x_and_the_message_shows_it() {
        assert_eq!(gva("0x80_0000_1000"), Ok(Gva(0x80_0000_1000)));
        assert_eq!(hpa("0XfF"), Ok(Hpa(0xff)));
        assert_eq!(gvas("0x1234"), Ok([Gva(0x1000), Gva(0x1fff)]));
        assert_eq!(gvas("0x1000..0x3000"), Ok([Gva(0x1000), Gva(0x2fff)]));
        assert!(gvas("0x3000..0x3000").is_err() && gvas("0x3000..0x1000").is_err());
        let refused = |text| gva(text).unwrap_err();
        assert_eq!(
            refused("8000001000"),
            "an address is hexadecimal and begins with 0x: 0x8000001000"
        );
        assert!(refused("lunch").contains("like 0x400000"));
        assert!(refused("0x1ffffffffffffffff").contains("at most 64 bits"));
    }
}
