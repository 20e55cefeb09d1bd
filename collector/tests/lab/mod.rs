//! Tests named `lab_*`: they boot a stock kernel in QEMU or Bochs. It is the one in the folder that
//! `SHADOWSCOPE_LAB_KERNEL` names, or an installed one.

mod acts;
mod exact;
mod found;
mod intel;
mod linux;
mod modes;
mod nested;

use std::{
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    analyze, analyzer, collector, expect_code, expect_only, folder, json, run, stderr,
    tracefs::Counted,
};

/// `collector lab` with the kernel under test.
fn lab() -> Command {
    let mut command = collector();
    command.arg("lab");
    if let Some(kernel) = std::env::var_os("SHADOWSCOPE_LAB_KERNEL") {
        command.arg("--kernel").arg(kernel);
    }
    command
}

/// Hits of each thread, by event.
fn observed(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("the observer's counts")).expect("JSON")
}

fn exact_and_counted_the_same(args: &[&str]) {
    recorded_and_counted(lab(), args);
}

fn recorded_and_counted(mut command: Command, args: &[&str]) {
    let folder = folder();
    let (trace, counts) = (folder.path().join("w.trace"), folder.path().join("w.json"));
    command.args(args).arg("--json").arg("-o").arg(&trace);
    let outcome = json(&run(command.arg("--observer").arg(&counts)));
    assert_eq!(outcome["recorded"]["lost"], 0, "{outcome}");
    assert_eq!(outcome["recorded"]["trace"], trace.to_str().expect("UTF-8"));
    expect_only(&folder, &["w.json", "w.trace"]);

    let verified = analyze("verify", &trace);
    let drift = &verified["vms"][0]["drift"];
    assert_eq!((&drift["entries"], &drift["pages"]), (&0.into(), &0.into()));

    every_step_is_seen(&trace);
    tracefs_counts_the_same(&counts, &trace);
}

/// The lab's kernels grant every probe. That the steps of a fault are together no longer than the
/// fault is one of the checks of `verify`.
fn every_step_is_seen(trace: &Path) {
    let classes = analyze("summary", trace)["vms"][0]["classes"].clone();
    let shadow = ["exit", "walk", "pfn", "hva", "tables", "write", "entry"];
    let guest = ["exit", "walk", "inject", "entry"];
    for (class, steps) in [("shadow", &shadow[..]), ("guest", &guest[..])] {
        let seen = match classes.get(class) {
            Some(seen) => seen,
            // `linear` has no faults of the guest's own.
            None if class == "guest" => continue,
            None => panic!("no faults of class {class}: {classes}"),
        };
        for step in steps {
            let all = seen["steps"].as_array().expect("steps");
            let found = all.iter().find(|found| found["step"] == *step);
            let count = found.map(|found| &found["count"]);
            assert_eq!(count, Some(&seen["count"]), "{class}, {step}: {seen}");
        }
    }
}

/// The counts of the threads that ran the guest. Those of other threads come when the VM is closed,
/// after the recording.
fn tracefs_counts_the_same(counts: &Path, trace: &Path) {
    let (observed, counted) = (observed(counts), Counted::of(trace));
    let faulted = observed["kvm_page_fault"].as_object().expect("counts");
    for (event, count) in [
        ("kvm_page_fault", counted.faults),
        ("kvm_mmu_spte_requested", counted.requested),
        ("kvm_mmu_set_spte", counted.stored),
        ("kvm_mmu_get_page", counted.got),
        ("kvm_mmu_prepare_zap_page", counted.zapped),
    ] {
        let of_thread = |thread: &String| observed[event][thread].as_u64().unwrap_or(0);
        let hits: u64 = faulted.keys().map(of_thread).sum();
        if event == "kvm_mmu_prepare_zap_page" {
            // The thread that ends last zaps the remaining pages after the recording, and it may
            // be a vCPU's. `verify` compares with KVM's own counter, exactly.
            assert!(hits >= count, "{event}: {hits}, {count} in the trace");
        } else {
            assert_eq!(hits, count, "{event}");
        }
    }
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_linear_is_exact_and_tracefs_counts_the_same() {
    exact_and_counted_the_same(&["linear", "-p", "pages=2048"]);
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_demand_is_exact_and_tracefs_counts_the_same() {
    exact_and_counted_the_same(&["demand", "-p", "pages=2048"]);
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_keyframes_in_mid_run_are_exact() {
    let folder = folder();
    let trace = folder.path().join("k.trace");
    let mut command = lab();
    command.args([
        "demand",
        "-p",
        "pages=2048",
        "--keyframe-every",
        "0.05",
        "-o",
    ]);
    expect_code(&run(command.arg(&trace)), 0);
    let drift = analyze("verify", &trace)["vms"][0]["drift"].clone();
    assert!(drift["keyframes"].as_u64() > Some(3), "{drift}");
    assert_eq!((&drift["entries"], &drift["pages"]), (&0.into(), &0.into()));
}

/// Seconds after which a Linux guest is given up; it takes one minute, or three on a busy machine.
const TIMEOUT: &str = "300";

/// A distribution's kernel from its first instruction until it has powered off.
fn linux_is_counted_the_same(cpus: &str) {
    let folder = folder();
    let (trace, counts) = (folder.path().join("l.trace"), folder.path().join("l.json"));
    let mut command = lab();
    command.args([
        "--guest",
        "linux",
        "--cpus",
        cpus,
        "--guest-cpus",
        cpus,
        "-o",
    ]);
    command.arg(&trace).arg("--observer").arg(&counts);
    command.args(["--keyframe-every", "2", "--timeout", TIMEOUT]);
    let mut output = run(&mut command);
    // Seen once in nine runs: the guest waits for an interrupt that the emulator has lost.
    if stderr(&output).contains(&format!("not done after {TIMEOUT} s")) {
        eprintln!("a first run did not end: {}", stderr(&output));
        output = run(&mut command);
    }
    expect_code(&output, 0);

    // Fails unless it is exact: no drift, nothing impossible, KVM's counters equal.
    let drift = analyze("verify", &trace)["vms"][0]["drift"].clone();
    assert!(drift["keyframes"].as_u64() > Some(5), "{drift}");

    let summary = analyze("summary", &trace);
    assert_eq!(summary["complete"], true);
    assert_eq!(summary["lost"]["records"], 0, "{}", summary["lost"]);
    let vm = &summary["vms"][0];
    assert_eq!(vm["vcpus"].as_array().map(Vec::len), cpus.parse().ok());
    assert!(
        vm["classes"]["unsync"]["count"].as_u64() > Some(100),
        "{}",
        vm["classes"]
    );
    tracefs_counts_the_same(&counts, &trace);
    linux::processes_are_separated(&trace);
    linux::functions_are_named(&trace);
}

#[test]
#[ignore = "needs QEMU, busybox-static and a kernel package"]
fn lab_linux_guest_is_counted_as_tracefs_counts() {
    linux_is_counted_the_same("1");
}

#[test]
#[ignore = "needs QEMU, busybox-static and a kernel package"]
fn lab_linux_guest_with_two_cpus_is_counted_as_tracefs_counts() {
    linux_is_counted_the_same("2");
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_with_nested_paging_run_refuses_with_the_remedy() {
    let folder = folder();
    let mut command = lab();
    command
        .args(["linear", "--module-param", "kvm_amd.npt=1", "-o", "w.trace"])
        .current_dir(folder.path());
    let output = run(&mut command);
    expect_code(&output, 3);
    let said = stderr(&output);
    assert!(said.contains("modprobe kvm_amd npt=0"), "{said}");
    assert!(output.stdout.is_empty());
    expect_only(&folder, &[]);
}

/// The second `doctor` comes after the module was loaded again.
#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_a_module_loaded_again_without_shadow_paging_is_noticed() {
    let output = run(lab().args(["--reload", "kvm_amd.npt=1", "--", "doctor"]));
    expect_code(&output, 3);
    let said = String::from_utf8_lossy(&output.stdout);
    let verdicts: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("This host can"))
        .collect();
    let [able, unable] = verdicts[..] else {
        panic!("two verdicts: {said}");
    };
    assert!(
        able.starts_with("This host can record the shadow MMU: "),
        "{able}"
    );
    assert_eq!(
        unable,
        "This host cannot record the shadow MMU yet: shadow paging"
    );
    assert!(said.contains("modprobe kvm_amd npt=0"), "{said}");
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_doctor_finds_it_able() {
    let report = json(&run(lab().args(["--", "doctor", "--json"])));
    assert_eq!(report["able"], true, "{report:#}");
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_brings_out_the_trace_of_a_guest_that_crashed() {
    let folder = folder();
    let trace = folder.path().join("c.trace");
    let output = run(lab().args(["crash", "-p", "kind=triple", "-o"]).arg(&trace));
    expect_code(&output, 1);
    assert!(stderr(&output).contains("rip"), "{}", stderr(&output));
    assert_eq!(analyze("summary", &trace)["complete"], true);
}

#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_that_takes_too_long_or_is_interrupted_leaves_nothing() {
    let folder = folder();
    let begin = Instant::now();
    let mut late = lab();
    late.args(["demand", "--timeout", "1.5"])
        .current_dir(folder.path());
    let output = run(&mut late);
    expect_code(&output, 1);
    assert!(stderr(&output).contains("1.5 s"), "{}", stderr(&output));
    expect_only(&folder, &[]);

    let mut interrupted = lab();
    interrupted.arg("demand").current_dir(folder.path());
    let child = interrupted
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    std::thread::sleep(Duration::from_secs(3));
    kill_process(Pid::from_child(&child), Signal::TERM).expect("a signal");
    let output = child.wait_with_output().expect("a child");
    expect_code(&output, 1);
    assert!(
        stderr(&output).contains("interrupted"),
        "{}",
        stderr(&output)
    );
    expect_only(&folder, &[]);
    assert!(begin.elapsed() < Duration::from_secs(30));
}

/// A pipe that holds no more, and whose reader does not read.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&[0; 1 << 16]).expect("room");
    (reader, writer)
}

/// The code of a lab that ends `within` seconds.
fn ends(lab: &mut Child, within: u64) -> Option<i32> {
    let begin = Instant::now();
    loop {
        if let Some(status) = lab.try_wait().expect("a child") {
            return status.code();
        }
        if begin.elapsed() > Duration::from_secs(within) {
            lab.kill().expect("it lives");
            panic!("it does not end within {within} s");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the lab prints goes to pipes that are full, and nobody reads: the recording is whole, and
/// the time limit and signals end what is left.
#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_whose_output_nobody_reads_records_and_ends() {
    let folder = folder();
    let begin = |name: &str, limit: &str, all: bool| {
        let trace = folder.path().join(name);
        let (reader, writer) = full_pipe();
        let mut command = lab();
        command.args(["linear", "-p", "pages=64", "--timeout", limit, "-v", "-o"]);
        command.arg(&trace).stderr(if all {
            Stdio::from(writer.try_clone().expect("a pipe"))
        } else {
            Stdio::null()
        });
        let lab = command.stdout(writer).spawn().expect("the program starts");
        (lab, trace, reader)
    };
    // Only its output waits, or also its console; a signal comes when all is recorded.
    let mut longest = 0;
    for (all, signal) in [(false, Signal::TERM), (true, Signal::INT)] {
        let (mut lab, trace, _reader) = begin("s.trace", "600", all);
        let begun = Instant::now();
        while !trace.exists() {
            assert!(begun.elapsed() < Duration::from_secs(120), "no trace");
            std::thread::sleep(Duration::from_millis(20));
        }
        longest = longest.max(begun.elapsed().as_secs());
        std::thread::sleep(Duration::from_millis(500));
        assert!(lab.try_wait().expect("a child").is_none(), "it waits");
        kill_process(Pid::from_child(&lab), signal).expect("a signal");
        assert_eq!(ends(&mut lab, 5), Some(1));
        expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);
        fs::remove_dir_all(&trace).expect("mine");
    }
    // A signal while the guest runs, and the time limit before it does and after all is recorded.
    let (mut lab, trace, _reader) = begin("e.trace", "600", true);
    std::thread::sleep(Duration::from_secs(2));
    kill_process(Pid::from_child(&lab), Signal::TERM).expect("a signal");
    assert_eq!(ends(&mut lab, 5), Some(1));
    assert!(!trace.exists());
    let (mut lab, trace, _reader) = begin("l.trace", "1", true);
    assert_eq!(ends(&mut lab, 6), Some(1));
    assert!(!trace.exists());
    let limit = 2 * longest + 10;
    let (mut lab, trace, _reader) = begin("t.trace", &limit.to_string(), false);
    assert_eq!(ends(&mut lab, limit + 5), Some(1));
    expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);
    expect_only(&folder, &["t.trace"]);
}

/// A reader that has seen enough does not end the recording.
#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_whose_reader_leaves_records() {
    let folder = folder();
    let trace = folder.path().join("h.trace");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = lab();
    command.args(["linear", "-p", "pages=64", "-o"]).arg(&trace);
    let mut child = command.stdout(writer).spawn().expect("the program starts");
    assert_eq!(ends(&mut child, 120), Some(0));
    expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);
    expect_only(&folder, &["h.trace"]);
}

#[test]
#[ignore = "needs QEMU, a kernel package, and root to become somebody else"]
fn lab_works_as_an_ordinary_user() {
    let folder = folder();
    std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).expect("root may");
    // The build folder may be closed to others: the program and the kernel are copied to where
    // anybody may read.
    let copies = folder_for_anybody();
    let program = copies.path().join("collector");
    fs::copy(env!("CARGO_BIN_EXE_collector"), &program).expect("a copy");
    let mut command = Command::new(&program);
    command.args(["lab", "linear", "-p", "pages=64", "-o", "w.trace"]);
    if let Some(kernel) = std::env::var_os("SHADOWSCOPE_LAB_KERNEL") {
        let copy = copies.path().join("kernel");
        let status = Command::new("cp").arg("-r").arg(kernel).arg(&copy).status();
        assert!(status.is_ok_and(|status| status.success()), "a copy");
        command.arg("--kernel").arg(copy);
    }
    command.current_dir(folder.path()).uid(65534).gid(65534);
    expect_code(&run(&mut command), 0);
    expect_only(&folder, &["w.trace"]);
}

fn folder_for_anybody() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("mine");
    folder
}

/// With NPT the guest's own page faults do not exit: what the lesson shows.
#[test]
#[ignore = "needs QEMU and a kernel package"]
fn lab_counts_the_exits_of_the_same_guest_with_and_without_shadow_tables() {
    const PAGES: u64 = 256;
    let counted = |npt: &str| {
        let mut command = lab();
        command.args(["demand", "-p", &format!("pages={PAGES}")]);
        command.args(["--untraced", "--json", "--module-param", npt]);
        let outcome = json(&run(&mut command));
        let vcpu = outcome["counters"]["vcpus"][0].clone();
        ["exits", "pf_taken", "pf_guest"].map(|name| vcpu[name].as_u64().expect("a counter"))
    };
    let [shadow, nested] = ["kvm_amd.npt=0", "kvm_amd.npt=1"].map(counted);
    let [exits, taken, of_guest] = shadow;
    assert_eq!(of_guest, PAGES, "{shadow:?}");
    assert!(taken >= 2 * PAGES && exits >= taken, "{shadow:?}");
    let [exits, taken, of_guest] = nested;
    assert_eq!(of_guest, 0, "{nested:?}");
    assert!(
        taken >= PAGES && exits >= taken && taken < 2 * PAGES,
        "{nested:?}"
    );
}
