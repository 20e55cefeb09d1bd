//! Who pays, and which faults and changes: `top`, `faults`, `changes`, symbols.

use analyzer::symbols;
use events::Gva;
use maker::Shape;

use super::demo::{Demo, two};

/// Two VMs, one of which stores to its tables.
#[test]
fn top_adds_faults_up_by_each_key() {
    let demo = two();
    let mut text = String::new();
    for by in [
        "cr3",
        "rip",
        "symbol",
        "gva-range",
        "slot",
        "guest-table",
        "shadow-page",
        "vcpu",
        "cause",
    ] {
        let args = ["top", "demo.trace", "--by", by, "--vm", "0", "--top", "3"];
        text += &format!("$ {}\n{}\n", args.join(" "), demo.text(&args, 0));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn top_counts_each_fault_that_the_filter_admits_once() {
    let demo = two();
    let faults = |args: &[&str]| {
        let args = [&["top", "demo.trace", "--json", "--by"], args].concat();
        let top = demo.json(&args, 0);
        let vm = &top["vms"][0];
        let sum: u64 = vm["payers"]
            .as_array()
            .unwrap()
            .iter()
            .chain([&vm["without_key"], &vm["others"]])
            .map(|of| of["count"].as_u64().unwrap())
            .sum();
        assert_eq!(vm["all"]["count"], sum, "{args:?}");
        sum
    };
    let summary = demo.json(&["summary", "demo.trace", "--json"], 0);
    let all = summary["vms"][0]["faults"].as_u64().unwrap();
    let keys = [
        "cr3",
        "rip",
        "symbol",
        "gva-range",
        "slot",
        "shadow-page",
        "vcpu",
    ];
    for by in keys {
        assert_eq!(faults(&[by]), all, "{by}");
    }
    let guest = &summary["vms"][0]["classes"]["guest"]["count"];
    assert_eq!(
        faults(&["cr3", "--class", "guest"]),
        guest.as_u64().unwrap()
    );
    let halves = ["--to", "--from"].map(|edge| faults(&["cr3", edge, "fault:9"]));
    assert_eq!(halves, [10, all - 9]);
    assert_eq!(faults(&["vcpu", "--vcpu", "7"]), 0);
    let none = faults(&["gva-range", "--granule", "4K", "--gva", "0x1000..0x2000"]);
    assert_eq!(none, 0);
}

#[test]
fn faults_and_changes_are_listed_with_their_numbers() {
    let demo = two();
    let mut text = String::new();
    for args in [
        &["faults", "--top", "3"][..],
        &["faults", "--sort", "seq", "--top", "2", "--class", "shadow"],
        &["faults", "--gva", "0x400000000000", "--to", "fault:9"],
        &["changes", "--top", "3"],
        &["changes", "--cause", "host_unmap,guest_write"],
        &["changes", "--gva", "0x400000003000"],
        &["find", "--gva", "0x400000000000"],
        &["find", "--gfn", "0x1003"],
        &["find", "--hpa", "0x123000"],
    ] {
        let args = [&args[..1], &["demo.trace", "--vm", "0"], &args[1..]].concat();
        text += &format!("$ {}\n{}\n", args.join(" "), demo.text(&args, 0));
    }
    for args in [
        &["faults", "--from", "phase:lunch"][..],
        &["faults", "--gva", "0x2000..0x1000"],
        &["changes", "--to", "fault:99"],
        &["find"],
        &["top", "--by", "cr3", "--granule", "2M"],
    ] {
        let args = [&args[..1], &["demo.trace", "--vm", "0"], &args[1..]].concat();
        text += &format!("$ {}\n{}\n", args.join(" "), demo.error(&args, 2));
    }
    insta::assert_snapshot!(text);
}

/// The number that a list gives is the one that `explain` takes.
#[test]
fn explain_takes_the_numbers_of_the_lists() {
    let demo = two();
    let list = |command: &str| {
        let args = [command, "demo.trace", "--vm", "0", "--json"];
        demo.json(&args, 0)["vms"][0][command].clone()
    };
    let explain = |args: [&str; 2]| {
        let args = [&["explain", "demo.trace", "--vm", "0"], &args[..]].concat();
        demo.text(&args, 0)
    };
    for (command, number) in [("faults", "fault"), ("changes", "change")] {
        for listed in list(command).as_array().unwrap() {
            let (seq, nth) = (listed["seq"].to_string(), listed[number].to_string());
            let by_number = explain([&format!("--{number}"), &nth]);
            assert_eq!(explain(["--seq", &seq]), by_number, "{listed}");
        }
    }
}

/// The ELF header of this program.
fn header() -> Vec<u8> {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    program[..64].to_vec()
}

/// It without sections: as `strip --strip-section-headers` leaves it.
fn stripped() -> Vec<u8> {
    let mut header = header();
    // e_shoff, and e_shentsize, e_shnum and e_shstrndx.
    header[0x28..0x30].fill(0);
    header[0x3a..0x40].fill(0);
    header
}

/// Of this program: how far it was loaded from where it was linked is what the kernel says of its
/// entry point (AT_ENTRY), less what its file says.
#[test]
fn functions_of_an_elf_file_are_named() {
    let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
    let auxv = std::fs::read("/proc/self/auxv").unwrap();
    let mut pairs = auxv.chunks_exact(16).map(|pair| pair.split_at(8));
    let entry = pairs.find(|(key, _)| number(key) == libc::AT_ENTRY);
    let moved = number(entry.unwrap().1) - number(&header()[0x18..0x20]);
    let at = (two as *const ()).addr() as u64 - moved;
    let program = std::env::current_exe().unwrap();
    let symbols = symbols::read(&program).unwrap();
    for offset in [0, 3] {
        let place = symbols.place(Gva(at + offset));
        let name = format!("program::made_up::demo::two+{offset:#x}");
        assert_eq!(place, Some(name));
    }
    assert_eq!(symbols.place(Gva(0)), None);
}

#[test]
fn symbols_name_functions_or_the_error_says_why_not() {
    let demo = Demo::new(Shape::default());
    let write = |name: &str, text: &str| std::fs::write(demo.0.path().join(name), text).unwrap();
    write(
        "nm",
        "0000000000400000 0000000000002000 t _ZN4work5touch17h0123456789abcdefE\n",
    );
    write(
        "hidden",
        "0000000000000000 T _text\n0000000000000000 t work\n",
    );
    write(
        "stub",
        "ffffffffffffffff B The real System.map is in the linux-image-dbg package\n",
    );
    write("words", "hello, world\n");
    write("gz", "\u{1f}");
    std::fs::write(demo.0.path().join("gz"), b"\x1f\x8b\x08").unwrap();
    std::fs::write(demo.0.path().join("elf"), b"\x7fELF\x02\x01\x01").unwrap();
    std::fs::write(demo.0.path().join("stripped"), stripped()).unwrap();
    let by = ["top", "demo.trace", "--by", "symbol", "--symbols"];
    let mut text = demo.text(&[&by[..], &["nm"]].concat(), 0);
    // Where the trace brings its own.
    std::fs::copy(demo.0.path().join("nm"), demo.file("symbols.txt")).unwrap();
    assert_eq!(demo.text(&by[..4], 0), text);
    text += &demo.text(&["top", "demo.trace", "--by", "rip"], 0);
    // A list of the trace's own must be a file in it.
    std::fs::remove_file(demo.file("symbols.txt")).unwrap();
    std::os::unix::fs::symlink("../nm", demo.file("symbols.txt")).unwrap();
    let error = demo.error(&by[..4], 1);
    assert!(error.contains("symbols.txt"), "{error}");
    std::fs::remove_file(demo.file("symbols.txt")).unwrap();
    for file in [
        "hidden", "stub", "words", "gz", "elf", "stripped", "nowhere",
    ] {
        let error = demo.error(&[&by[..], &[file]].concat(), 2);
        text += &format!("$ --symbols {file}\n{error}\n");
    }
    insta::assert_snapshot!(text);
}
