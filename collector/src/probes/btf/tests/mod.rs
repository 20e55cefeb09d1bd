//! Against extracts of five kernels' BTF, and what is known of these kernels.

use std::{fs, path::PathBuf};

use super::KernelTypes;

mod hostile;
mod resolved;
mod tables;

/// Folders of `fixtures`, in the order of the tables' columns: Debian's 6.1.0-56, 6.12.107, 7.2.13
/// and 7.3.4, whose KVM is a module, and a 6.18 with KVM-PVM built in.
const KERNELS: [&str; 5] = ["6.1", "6.12", "6.18-pvm", "7.2", "7.3"];

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/probes/btf/fixtures"
    ))
    .join(name)
}

fn kernel(name: &str) -> KernelTypes {
    KernelTypes::from_folder(&fixture(name)).expect("BTF that was checked in")
}

/// A line of a table: a name, and for each kernel the value or, for `-`, nothing.
struct Row {
    name: String,
    values: [Option<String>; KERNELS.len()],
}

fn lines(table: &str) -> Vec<String> {
    fs::read_to_string(fixture("expected").join(table))
        .expect("a table that was checked in")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn rows(table: &str) -> Vec<Row> {
    lines(table)
        .iter()
        .map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next().expect("a name").to_owned();
            let values = [(); KERNELS.len()].map(|()| {
                let value = words.next().expect("a value for each kernel");
                (value != "-").then(|| value.to_owned())
            });
            assert_eq!(words.next(), None, "{name}: more values than kernels");
            Row { name, values }
        })
        .collect()
}
