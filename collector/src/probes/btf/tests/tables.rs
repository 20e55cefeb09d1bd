//! Every lookup, for every row of the tables in `fixtures/expected`.

use std::fmt::Write;

use super::{KERNELS, Row, kernel, lines, rows};
use crate::probes::btf::{KernelTypes, function::Function};

/// Every cell of the table is what `find` finds; also that it finds nothing.
fn agrees(table: &str, find: impl Fn(&KernelTypes, &str) -> Option<String>) {
    let rows = rows(table);
    assert!(!rows.is_empty());
    let mut wrong = String::new();
    for (column, name) in KERNELS.iter().enumerate() {
        let types = kernel(name);
        for Row { name: row, values } in &rows {
            let found = find(&types, row);
            if found != values[column] {
                let wanted = &values[column];
                writeln!(wrong, "{name}: {row} is {found:?}, not {wanted:?}").expect("memory");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn of_and_path(row: &str) -> (&str, &str) {
    row.split_once('.').expect("struct.field")
}

#[test]
fn offsets() {
    agrees("offsets", |types, row| {
        let (of, path) = of_and_path(row);
        types.offset(of, path).map(|offset| offset.to_string())
    });
}

#[test]
fn sizes() {
    agrees("sizes", |types, row| {
        types.size(row).map(|size| size.to_string())
    });
}

#[test]
fn bitfields() {
    agrees("bitfields", |types, row| {
        let (of, name) = of_and_path(row);
        let [bit, width] = types.bitfield(of, name)?;
        Some(format!("{bit}:{width}"))
    });
}

#[test]
fn tracepoints() {
    agrees("tracepoints", |types, row| {
        types.tracepoint(row).map(|arguments| arguments.to_string())
    });
}

/// Not only are the known ones where they are: there are no others.
#[test]
fn counters() {
    let rows = rows("counters");
    for (column, name) in KERNELS.iter().enumerate() {
        let types = kernel(name);
        for of in ["kvm_vm_stat", "kvm_vcpu_stat"] {
            let known: Vec<(String, u32)> = rows
                .iter()
                .filter_map(|row| {
                    let (within, name) = of_and_path(&row.name);
                    let offset = row.values[column].as_ref()?.parse().expect("an offset");
                    (within == of).then(|| (name.to_owned(), offset))
                })
                .collect();
            assert_eq!(types.counters(of), known, "{name}: {of}");
        }
    }
}

#[test]
fn functions() {
    // "6.1 6.12: int name(type parameter, ...)"
    let known: Vec<(String, String)> = lines("functions")
        .iter()
        .map(|line| {
            let (kernels, prototype) = line.split_once(": ").expect("kernels: prototype");
            (kernels.to_owned(), prototype.to_owned())
        })
        .collect();
    for kernel_name in KERNELS {
        let types = kernel(kernel_name);
        for (kernels, prototype) in &known {
            let before = prototype.split('(').next().expect("a name");
            let name = before.rsplit([' ', '*']).next().expect("a name");
            let found = types.function(name).map(|found| c(name, &found));
            let has_it_so = kernels.split(' ').any(|kernel| kernel == kernel_name);
            assert_eq!(
                found.as_ref() == Some(prototype),
                has_it_so,
                "{kernel_name}: {found:?}, and the table has {prototype} for {kernels}"
            );
        }
    }
}

/// A prototype as C has it.
fn c(name: &str, function: &Function) -> String {
    let declared = |type_name: &str, name: &str| {
        let space = if type_name.ends_with('*') { "" } else { " " };
        format!("{type_name}{space}{name}")
    };
    let parameters: Vec<String> = function
        .parameters
        .iter()
        .map(|parameter| declared(&parameter.type_name, &parameter.name))
        .collect();
    let name = declared(&function.returns, name);
    format!("{name}({})", parameters.join(", "))
}

#[test]
fn an_argument_is_found_by_its_name() {
    let writable = |name| kernel(name).function("hva_to_pfn")?.argument("writable");
    assert_eq!(writable("6.1"), Some(4));
    assert_eq!(writable("6.12"), Some(5));
    assert_eq!(writable("7.2"), None);
}
