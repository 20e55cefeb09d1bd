//! What a recording could still do once it has begun, as the kernel says it of each thread.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{analyzer, collector, expect_code, folder, run, stderr, vmm::Vmm};

/// What the first thread is called here: others have no name of their own either.
const MAIN: &str = "main";
/// A user without rights.
const USER: u32 = 65534;
/// Capabilities that a thread may have: none, or those with which `attach` watches other processes.
const NONE: &str = "0000000000000000";
/// `CAP_DAC_READ_SEARCH` and `CAP_SYS_PTRACE`.
const WATCHING: &str = "0000000000080004";

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_every_thread_of_run_is_confined() {
    let folder = folder();
    let trace = folder.path().join("r.trace");
    let child = collector()
        .args(["run", "dirty", "-p", "passes=1000000", "-o"])
        .arg(&trace)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let threads = end_with_threads(child, &trace, 1);
    for name in [MAIN, "vmm", "vcpu0", "actor-dirty-log", "drain", "writer"] {
        let of = threads
            .get(name)
            .unwrap_or_else(|| panic!("{name}: {threads:?}"));
        assert_eq!(of["CapEff"], NONE, "{name}");
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_every_thread_of_attach_is_confined_and_one_may_watch() {
    let folder = folder();
    let trace = folder.path().join("a.trace");
    let mut vmm = Vmm::small(&["--vcpus", "2", "--pages", "4096", "--discard"]);
    vmm.go();
    vmm.expect("touched");
    let child = collector()
        .args(["attach", "--pid", &vmm.pid().to_string(), "-o"])
        .arg(&trace)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let threads = end_with_threads(child, &trace, 0);
    assert_eq!(threads[MAIN]["CapEff"], WATCHING);
    for name in ["drain", "writer"] {
        assert_eq!(threads[name]["CapEff"], NONE, "{name}");
    }
}

/// What the kernel says of each thread while something is recorded, by the thread's name.
type Threads = BTreeMap<String, BTreeMap<String, String>>;

/// Reads the threads of a recording under way, ends it, and proves that it was none the worse.
fn end_with_threads(child: Child, trace: &Path, code: i32) -> Threads {
    let begin = Instant::now();
    while fs::metadata(trace.join("segments.jsonl")).map_or(0, |file| file.len()) == 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "no segment");
        thread::sleep(Duration::from_millis(20));
    }
    let mut threads = Threads::new();
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).expect("it runs");
    for task in tasks.flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let lines = status.lines().filter_map(|line| line.split_once(':'));
        let of: BTreeMap<_, _> = lines
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect();
        let is_main = task.file_name().to_str() == Some(&child.id().to_string());
        let name = match of.get("Name") {
            Some(_) if is_main => MAIN.to_owned(),
            Some(name) => name.clone(),
            None => continue,
        };
        // 2: a filter.
        assert_eq!((&*of["Seccomp"], &*of["NoNewPrivs"]), ("2", "1"), "{name}");
        assert_eq!(of["CapBnd"], NONE, "{name}");
        assert!(of["CapPrm"] == NONE || is_main, "{name}");
        threads.insert(name, of);
    }
    let filters = |name: &str| -> Option<u32> {
        let count = threads[name].get("Seccomp_filters")?;
        Some(count.parse().expect("a number"))
    };
    if let Some(main) = filters(MAIN) {
        for name in ["drain", "writer"] {
            assert_eq!(filters(name), Some(main + 1), "{name} has its own filter");
        }
    }
    kill_process(Pid::from_child(&child), Signal::INT).expect("a signal");
    let output = child.wait_with_output().expect("a child");
    expect_code(&output, code);
    expect_code(&run(analyzer().arg("verify").arg(trace)), 0);
    threads
}

/// Root follows no name that the user can change: here a folder that root has just made for the user
/// becomes a link to one that only root may use.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_root_makes_nothing_behind_a_link_of_the_user() {
    let folder = folder();
    let path = folder.path();
    chown(path, Some(USER), Some(USER)).expect("root may");
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("root may");
    let secret = tempfile::tempdir().expect("a folder of root's");
    fs::set_permissions(&secret, Permissions::from_mode(0o700)).expect("root may");
    let sweep = path.join("s.sweep");
    let child = collector()
        .env("SUDO_UID", USER.to_string())
        .env("SUDO_GID", USER.to_string())
        .args([
            "sweep",
            "demand",
            "--over",
            "pages=16,17,18,19",
            "--repeat",
            "1",
            "-o",
        ])
        .arg(&sweep)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // As soon as it is there, it is a link.
    let begin = Instant::now();
    while fs::rename(&sweep, path.join("away")).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(20), "no folder");
    }
    symlink(secret.path(), &sweep).expect("a link");
    let output = child.wait_with_output().expect("a child");
    assert!(!output.status.success());
    let made: Vec<_> = fs::read_dir(&secret).expect("readable").collect();
    assert!(made.is_empty(), "{made:?}");
}

/// A trace is made by the user, wherever its name leads; nor is it said what root has.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_trace_is_made_with_the_rights_of_the_user() {
    let secret = tempfile::tempdir().expect("a folder of root's");
    fs::set_permissions(&secret, Permissions::from_mode(0o700)).expect("root may");
    fs::write(secret.path().join("there"), "").expect("writable");
    let folder = folder();
    let link = folder.path().join("link");
    symlink(secret.path(), &link).expect("a link");
    for name in ["there", "x.trace"] {
        let output = run(collector()
            .env("SUDO_UID", USER.to_string())
            .env("SUDO_GID", USER.to_string())
            .args(["run", "linear", "-p", "pages=16", "-o"])
            .arg(link.join(name)));
        assert!(!output.status.success());
        let said = stderr(&output);
        assert!(!said.contains("exists already"), "{said}");
    }
    let made: Vec<_> = fs::read_dir(&secret).expect("readable").collect();
    assert_eq!(made.len(), 1, "{made:?}");
}
