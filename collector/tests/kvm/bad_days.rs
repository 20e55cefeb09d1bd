//! Processes and VMs that do what they like while they are recorded, and recordings that must end.

use std::{
    fs,
    os::{fd::OwnedFd, unix::process::CommandExt as _},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};
use serde_json::Value;
use trace::Trace;

use super::attach::{exact, of_process};
use crate::support::{
    analyze, analyzer, collector, expect_code, folder, json, run, stderr,
    vmm::{Attached, Vmm, while_none_attaches_to_all},
};

/// The process executes another program, ends, or forks, while it is stopped a hundred times a
/// second: the recording holds what came before.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_process_that_execs_or_exits_between_two_keyframes_leaves_a_whole_trace() {
    for (then, ended) in [
        ("exec", "closed by its process"),
        ("exit", "its process ended"),
    ] {
        for after in ["150", "157", "163", "171", "188"] {
            let folder = folder();
            let trace = folder.path().join("e.trace");
            let args = ["--vcpus", "2", "--pages", "4096", "--discard"];
            let when = ["--then", then, "--after-ms", after];
            let mut vmm = Vmm::small(&[&args[..], &when].concat());
            let pid = vmm.pid().to_string();
            let args = ["--pid", &pid, "--keyframe-every", "0.01"];
            let mut attached = Attached::start(&trace, &args);
            attached.until_traced(&[vmm.pid()]);
            vmm.go();
            let outcome = attached.ended();
            assert_eq!(outcome["reason"], "done", "{outcome}");
            let found = outcome["vms"][0]["ended"].as_str().unwrap_or_default();
            // A process is gone from the moment at which its memory is.
            let ends = [ended, "its process ended"];
            assert!(ends.contains(&found), "{then}: {outcome}");
            assert_eq!(outcome["lost"], 0, "{outcome}");
            expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);
        }
    }
}

/// A child has copies of all descriptors, and another memory: the VM is the parent's.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_process_that_forks_between_two_keyframes_is_recorded_on() {
    let folder = folder();
    let trace = folder.path().join("f.trace");
    let args = ["--vcpus", "2", "--pages", "4096", "--discard"];
    let when = ["--then", "fork", "--after-ms", "100"];
    let mut vmm = Vmm::small(&[&args[..], &when].concat());
    let args = ["--all", "--keyframe-every", "0.01"];
    let mut attached = Attached::start(&trace, &args);
    attached.until_traced(&[vmm.pid()]);
    vmm.go();
    vmm.expect("touched");
    thread::sleep(Duration::from_millis(1500));
    let outcome = attached.stop();
    let [vm] = &of_process(&outcome, vmm.pid())[..] else {
        panic!("one VM: {outcome}");
    };
    assert_eq!(vm["ended"], Value::Null, "{outcome}");
    exact(&analyze("verify", &trace), &vm["vm"]);
}

/// Another process (here this one) has copies of all descriptors of a VM, and a lower number than the
/// one that runs it.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_process_with_copies_of_descriptors_is_refused_with_the_one_that_runs_the_vm() {
    let folder = folder();
    let mut vmm = Vmm::small(&["--vcpus", "2", "--pages", "4096", "--discard"]);
    vmm.go();
    vmm.expect("touched");
    let copies = copies_of(vmm.pid());
    assert_eq!(copies.len(), 3, "a VM and two vCPUs");

    let trace = folder.path().join("x.trace");
    let this = std::process::id().to_string();
    let output = run(collector()
        .args(["attach", "--pid", &this, "-o"])
        .arg(&trace));
    expect_code(&output, 1);
    let said = stderr(&output).replace("\n  ", " ");
    for words in [
        "only has copies",
        &format!("run by process {}", vmm.pid()),
        &format!("attach --pid {}", vmm.pid()),
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!trace.exists());
    let listed = run(collector().args(["list", "--json"]));
    let words = format!("process {this} (");
    assert!(stderr(&listed).contains(&words), "{}", stderr(&listed));
    let listed = json(&listed);
    let pids: Vec<_> = listed.as_array().expect("VMs").iter().collect();
    assert!(pids.iter().any(|vm| vm["pid"] == vmm.pid()), "{listed}");
    assert!(!pids.iter().any(|vm| vm["pid"] == std::process::id()));

    let trace = folder.path().join("a.trace");
    let mut attached = Attached::start(&trace, &["--all", "--keyframe-every", "0.1"]);
    attached.until_traced(&[vmm.pid()]);
    thread::sleep(Duration::from_millis(500));
    vmm.kill();
    // The copies keep the VM in the kernel. Nobody can run it any more.
    thread::sleep(Duration::from_millis(2500));
    let outcome = attached.stop();
    assert_eq!(of_process(&outcome, std::process::id()), [] as [Value; 0]);
    let [vm] = &of_process(&outcome, vmm.pid())[..] else {
        panic!("one VM: {outcome}");
    };
    assert_eq!(vm["ended"], "its process ended");
    exact(&analyze("verify", &trace), &vm["vm"]);
}

/// Copies of the descriptors of KVM that a process has.
fn copies_of(pid: u32) -> Vec<OwnedFd> {
    let id = Pid::from_raw(pid as i32).expect("a process");
    let process = pidfd_open(id, PidfdFlags::empty()).expect("it runs");
    let mut copies = Vec::new();
    for link in fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs") {
        let link = link.expect("a descriptor");
        let target = fs::read_link(link.path()).expect("open");
        let name = link.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        if target.to_string_lossy().starts_with("anon_inode:kvm-v") {
            let number = number.expect("a number");
            let flags = PidfdGetfdFlags::empty();
            copies.push(pidfd_getfd(&process, number, flags).expect("a copy"));
        }
    }
    copies
}

/// Only a part of the threads has the descriptors, or the first thread, which has all others' table
/// too, has ended.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_descriptors_are_found_in_every_thread() {
    for (how, late) in [("--own-files", false), ("--leave", true)] {
        let folder = folder();
        let trace = folder.path().join("t.trace");
        let mut vmm = Vmm::small(&["--vcpus", "2", "--pages", "4096", "--discard", how]);
        let pid = vmm.pid().to_string();
        let start = || Attached::start(&trace, &["--pid", &pid, "--keyframe-every", "0.1"]);
        let mut attached = match late {
            true => {
                vmm.go();
                vmm.expect("touched");
                start()
            }
            false => start(),
        };
        attached.until_traced(&[vmm.pid()]);
        if !late {
            vmm.go();
            vmm.expect("touched");
        }
        thread::sleep(Duration::from_millis(800));
        let outcome = attached.stop();
        assert_eq!(outcome["lost"], 0, "{how}: {outcome}");
        assert_eq!(outcome["vms"][0]["ended"], Value::Null, "{how}: {outcome}");
        assert_eq!(outcome["vms"][0]["vcpus"], serde_json::json!([0, 1]));
        assert!(outcome["faults"].as_u64() > Some(1000), "{how}: {outcome}");
        exact(&analyze("verify", &trace), &0.into());
    }
}

/// VMs that come and go faster than anybody looks: another one is recorded exactly all the while.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_vm_every_ten_milliseconds_disturbs_no_recording() {
    let folder = folder();
    let trace = folder.path().join("c.trace");
    let mut steady = Vmm::small(&["--pages", "2048", "--discard"]);
    let mut churn = Vmm::small(&["--churn", "600", "--pages", "64"]);
    let mut attached = Attached::start(&trace, &["--all", "--keyframe-every", "0.3"]);
    attached.until_traced(&[steady.pid()]);
    steady.go();
    churn.go();
    churn.expect("touched");
    // The next look finds the last one gone.
    thread::sleep(Duration::from_millis(2500));
    let outcome = attached.stop();
    let [vm] = &of_process(&outcome, steady.pid())[..] else {
        panic!("one VM: {outcome}");
    };
    let verified = analyze("verify", &trace);
    exact(&verified, &vm["vm"]);
    // Which of them are there at a look is chance.
    for vm in of_process(&outcome, churn.pid()) {
        assert_eq!(vm["ended"], "closed by its process", "{outcome}");
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_sixty_four_vcpus_of_which_most_come_later_are_recorded_exactly() {
    let folder = folder();
    let trace = folder.path().join("m.trace");
    let mut vmm = Vmm::small(&["--vcpus", "64", "--pages", "512", "--late"]);
    let pid = vmm.pid().to_string();
    let mut attached = Attached::start(&trace, &["--pid", &pid, "--keyframe-every", "0.2"]);
    attached.until_traced(&[vmm.pid()]);
    vmm.go();
    vmm.go();
    vmm.expect("touched");
    let outcome = attached.stop();
    assert_eq!(outcome["lost"], 0, "{outcome}");
    let vcpus: Vec<u64> = (0..64).collect();
    assert_eq!(outcome["vms"][0]["vcpus"], serde_json::json!(vcpus));
    exact(&analyze("verify", &trace), &0.into());
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_trace_of_the_largest_size_is_closed_and_says_why() {
    const SIZE: u64 = 600 << 10;
    let folder = folder();
    let trace = folder.path().join("s.trace");
    let output = run(collector()
        .args(["run", "dirty", "-p", "pages=4096", "-p", "passes=1000000"])
        .args(["--max-size", "600K", "--json", "-o"])
        .arg(&trace));
    let outcome = json(&output);
    assert_eq!(outcome["reason"], "size", "{outcome}");
    is_full(&trace, &outcome["recorded"], SIZE);

    let trace = folder.path().join("a.trace");
    let mut vmm = Vmm::small(&["--pages", "4096", "--discard"]);
    let pid = vmm.pid().to_string();
    let mut attached = Attached::start(&trace, &["--pid", &pid, "--max-size", "600K"]);
    attached.until_traced(&[vmm.pid()]);
    vmm.go();
    let outcome = attached.ended();
    assert_eq!(outcome["reason"], "size", "{outcome}");
    is_full(&trace, &outcome, SIZE);
}

/// The trace is whole, exact, and not much larger than it may be.
fn is_full(trace: &std::path::Path, outcome: &Value, size: u64) {
    let bytes = outcome["bytes"].as_u64().expect("a number");
    assert!((size..40 * size).contains(&bytes), "{outcome}");
    let meta = fs::read_to_string(trace.join("meta.json")).expect("there");
    let meta: Value = serde_json::from_str(&meta).expect("JSON");
    assert_eq!(meta["end"]["reason"], "size");
    assert_eq!(meta["complete"], true);
    expect_code(&run(analyzer().arg("verify").arg(trace)), 0);
}

/// A thread that no signal reaches (here a debugger holds it) cannot keep `run` past its limit, and
/// the trace is closed.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_run_with_a_thread_that_does_not_end_is_closed_at_its_limit() {
    let _alone = while_none_attaches_to_all();
    for workload in ["dirty", "memslot"] {
        let folder = folder();
        let trace = folder.path().join("h.trace");
        let child = collector()
            .args([
                "run",
                workload,
                "-p",
                "passes=1000000",
                "--timeout",
                "3",
                "-o",
            ])
            .arg(&trace)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let begin = Instant::now();
        let thread = until_thread(&child, "vcpu0");
        for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
            // SAFETY: these requests read and write no memory of ours.
            let done = unsafe { libc::ptrace(request, thread, 0, 0) };
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        }
        until_ended(thread, begin + Duration::from_secs(40));
        let output = child.wait_with_output().expect("a child");
        expect_code(&output, 1);
        let said = stderr(&output).replace("\n  ", " ");
        for words in ["did not end within", "vcpu0 is t", "traced by process"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let summary = analyze("summary", &trace);
        assert_eq!(summary["complete"], true, "{summary}");
        let recorded = Trace::open(&trace).expect("a trace");
        assert!(recorded.rows("faults") > 0, "{workload}");
    }
}

/// Waits for the end of a thread that this one traces: without that its process stays a zombie.
fn until_ended(thread: i32, limit: Instant) {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        let found = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL | libc::WNOHANG) };
        if found == thread && !libc::WIFSTOPPED(status) {
            return;
        }
        assert!(Instant::now() < limit, "it does not end");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The thread of that name, once the guest has worked for a moment.
fn until_thread(child: &Child, name: &str) -> i32 {
    let begin = Instant::now();
    loop {
        assert!(begin.elapsed() < Duration::from_secs(30), "no {name}");
        thread::sleep(Duration::from_millis(20));
        let tasks = fs::read_dir(format!("/proc/{}/task", child.id()));
        for task in tasks.into_iter().flatten().flatten() {
            let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if comm.trim() == name {
                thread::sleep(Duration::from_millis(500));
                let id = task.file_name();
                return id.to_str().and_then(|id| id.parse().ok()).expect("an id");
            }
        }
    }
}

/// `nohup` ignores SIGHUP, a script the SIGINT of what it starts in the background. SIGTERM ends it.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let folder = folder();
    let trace = folder.path().join("n.trace");
    let vmm = Vmm::small(&["--pages", "64"]);
    let pid = vmm.pid().to_string();
    let mut command = collector();
    // SAFETY: two system calls without memory of ours.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
            libc::signal(libc::SIGINT, libc::SIG_IGN);
            Ok(())
        });
    }
    let mut attached = Attached::spawn(command, &trace, &["--pid", &pid]);
    attached.until_traced(&[vmm.pid()]);
    attached.signal(Signal::HUP);
    attached.signal(Signal::INT);
    thread::sleep(Duration::from_secs(1));
    assert!(!attached.is_over());
    attached.signal(Signal::TERM);
    assert_eq!(attached.ended()["reason"], "interrupted");
}
