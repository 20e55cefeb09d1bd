//! `collector attach` and `collector list`, with other VMMs.

use std::{
    collections::BTreeMap, os::unix::fs::MetadataExt as _, path::Path, thread, time::Duration,
};

use events::{Class, Gva};
use serde_json::Value;
use trace::{Record, Trace};

use crate::support::{
    analyze, analyzer, collector, expect_code, folder, json, run, stderr,
    tracefs::{Counted, Instance},
    vmm::{Attached, Vmm, while_none_attaches_to_all},
};

/// Where the guests of `examples/small_vmm` do not work: their program and TSS.
const LOW: u64 = 1 << 20;

/// Drift 0 and counters equal, of a VM in `verify --json`.
pub(super) fn exact(verified: &Value, vm: &Value) {
    let vms = verified["vms"].as_array().expect("VMs");
    let of = vms.iter().find(|of| of["vm"] == *vm).expect("the VM");
    let drift = &of["drift"];
    assert!(drift["keyframes"].as_u64() >= Some(1), "{drift}");
    assert_eq!(
        (&drift["entries"], &drift["pages"]),
        (&0.into(), &0.into()),
        "{drift}"
    );
    for line in of["reconciliation"].as_array().expect("counters") {
        assert_eq!(line["agrees"], true, "{line}");
    }
}

/// VMs of a process, in the outcome of `attach`.
pub(super) fn of_process(outcome: &Value, pid: u32) -> Vec<Value> {
    let vms = outcome["vms"].as_array().expect("VMs");
    vms.iter().filter(|vm| vm["pid"] == pid).cloned().collect()
}

/// Shadow faults by VM and vCPU; each must be where that vCPU of that VM works.
fn faults_by_vcpu(trace: &Path) -> BTreeMap<(u64, u64), u64> {
    let mut faults = BTreeMap::new();
    for record in Trace::open(trace).expect("a trace").records() {
        let Record::Fault(fault) = record.expect("a whole trace") else {
            continue;
        };
        let (vm, vcpu) = (u64::from(fault.vm.0), u64::from(fault.vcpu.0));
        let Gva(gva) = fault.gva;
        if gva >= LOW {
            assert_eq!((gva >> 39, gva >> 30 & 0x1ff), (vm + 1, vcpu), "{gva:#x}");
            *faults.entry((vm, vcpu)).or_default() += 1;
        }
    }
    faults
}

#[test]
#[ignore = "needs root, tracefs and a shadow MMU (/dev/kvm)"]
fn kvm_two_vms_of_a_foreign_vmm_are_kept_apart_and_counted_as_tracefs_does() {
    const EVENTS: [&str; 3] = [
        "kvm_mmu_spte_requested",
        "kvm_mmu_set_spte",
        "kvm_mmu_get_page",
    ];
    let folder = folder();
    let trace = folder.path().join("a.trace");
    let mut vmm = Vmm::small(&["--vms", "2", "--vcpus", "2", "--pages", "2048"]);
    let pid = vmm.pid();
    let instance = Instance::new();
    instance.write("set_event_pid", &pid.to_string());
    for event in EVENTS {
        instance.write(&format!("events/kvmmmu/{event}/enable"), "1");
    }
    let mut attached = Attached::start(&trace, &["--pid", &pid.to_string()]);
    attached.until_traced(&[pid]);
    vmm.go();
    vmm.expect("touched");
    let outcome = attached.stop();
    vmm.kill();
    assert_eq!(
        (outcome["lost"].as_u64(), instance.overruns()),
        (Some(0), 0)
    );
    assert_eq!(outcome["reason"], "interrupted");

    let counted = Counted::of(&trace);
    for (event, ours) in EVENTS
        .iter()
        .zip([counted.requested, counted.stored, counted.got])
    {
        assert_eq!(instance.count(event, pid), ours, "{event}");
    }
    let vcpus = [(0, 0), (0, 1), (1, 0), (1, 1)];
    let expected: BTreeMap<_, _> = vcpus.map(|vcpu| (vcpu, 2048)).into();
    assert_eq!(faults_by_vcpu(&trace), expected);
    expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);
    // GPA to HVA is checked against the memslots that the kernel showed.
    let checks = analyze("verify", &trace)["vms"][1]["faults"].clone();
    assert!(checks[0]["checked"].as_u64() >= Some(2 * 2048), "{checks}");
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_guest_taken_in_mid_run_is_exact_with_vcpus_that_come_later_and_change_threads() {
    let folder = folder();
    let trace = folder.path().join("a.trace");
    let args = "--vms 2 --vcpus 3 --pages 32768 --pause-ms 20 --late --move-after 16";
    let mut vmm = Vmm::small(&Vec::from_iter(args.split(' ')));
    vmm.go();
    let pid = vmm.pid().to_string();
    let mut attached = Attached::start(&trace, &["--pid", &pid, "--keyframe-every", "0.25"]);
    attached.until_traced(&[vmm.pid()]);
    vmm.go();
    thread::sleep(Duration::from_secs(2));
    let outcome = attached.stop();
    assert_eq!(outcome["lost"], 0);
    for vm in of_process(&outcome, vmm.pid()) {
        assert_eq!(vm["vcpus"], serde_json::json!([0, 1, 2]), "{vm}");
    }
    let faults = faults_by_vcpu(&trace);
    for vcpu in [(0, 1), (0, 2), (1, 1), (1, 2)] {
        assert!(faults.contains_key(&vcpu), "{vcpu:?} in {faults:?}");
    }
    expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);
    let drift = analyze("verify", &trace)["vms"][0]["drift"].clone();
    assert!(drift["keyframes"].as_u64() > Some(2), "{drift}");
}

/// A 32-bit VMM: its KVM_RUN is another system call, with other registers.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_vcpu_that_is_run_by_32_bit_system_calls_is_recorded() {
    let folder = folder();
    let trace = folder.path().join("a.trace");
    let mut vmm = Vmm::small(&["--vcpus", "2", "--pages", "2048", "--ia32"]);
    let pid = vmm.pid();
    let mut attached = Attached::start(&trace, &["--pid", &pid.to_string()]);
    attached.until_traced(&[pid]);
    vmm.go();
    vmm.expect("touched");
    assert_eq!(attached.stop()["lost"], 0);
    vmm.kill();
    let expected: BTreeMap<_, _> = [(0, 0), (0, 1)].map(|vcpu| (vcpu, 2048)).into();
    assert_eq!(faults_by_vcpu(&trace), expected);
    expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);
}

/// The counters at both ends belong to the same moments as the first and the last keyframe, however
/// busy the vCPUs are just then.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_busy_guest_is_counted_exactly_however_often_it_is_attached_to() {
    let folder = folder();
    let mut vmm = Vmm::small(&["--vcpus", "2", "--pages", "4096", "--discard"]);
    vmm.go();
    vmm.expect("touched");
    let pid = vmm.pid().to_string();
    for time in 0..30 {
        let trace = folder.path().join(format!("{time}.trace"));
        let attached = Attached::start(&trace, &["--pid", &pid, "--for", "0.1"]);
        let outcome = attached.ended();
        assert_eq!(outcome["lost"], 0, "time {time}");
        assert!(
            outcome["faults"].as_u64() > Some(10),
            "time {time}: {outcome}"
        );
        let verified = analyze("verify", &trace);
        exact(&verified, &0.into());
        let lines = verified["vms"][0]["reconciliation"].clone();
        let lines = lines.as_array().expect("counters").iter();
        let equal: Vec<_> = lines.filter(|line| line["relation"] == "equal").collect();
        let has = |name: &str| equal.iter().any(|line| line["counter"] == name);
        assert!(has("pf_taken") && has("pf_fixed"), "time {time}: {equal:?}");
    }
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_vmm_that_is_killed_leaves_a_whole_trace() {
    let folder = folder();
    let trace = folder.path().join("k.trace");
    let mut vmm = Vmm::small(&["--pages", "65536", "--pause-ms", "1"]);
    let pid = vmm.pid();
    let mut attached = Attached::start(&trace, &["--pid", &pid.to_string()]);
    attached.until_traced(&[pid]);
    vmm.go();
    thread::sleep(Duration::from_millis(500));
    vmm.kill();
    let outcome = attached.ended();
    assert_eq!(outcome["reason"], "done");
    assert_eq!(outcome["vms"][0]["ended"], "its process ended");
    assert!(outcome["faults"].as_u64() > Some(0));
    expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);

    let again = run(collector().args(["attach", "--pid", &pid.to_string()]));
    expect_code(&again, 1);
    assert!(stderr(&again).contains("no process"), "{}", stderr(&again));
}

#[test]
#[ignore = "needs root, QEMU and a shadow MMU (/dev/kvm)"]
fn kvm_qemu_is_traced_while_its_firmware_runs() {
    let folder = folder();
    let trace = folder.path().join("q.trace");
    let vmm = Vmm::qemu();
    let mut attached = Attached::start(&trace, &["--all", "--keyframe-every", "0.5"]);
    attached.until_traced(&[vmm.pid()]);
    thread::sleep(Duration::from_secs(3));
    let outcome = attached.stop();
    let [vm] = &of_process(&outcome, vmm.pid())[..] else {
        panic!("one VM: {outcome}");
    };
    exact(&analyze("verify", &trace), &vm["vm"]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_two_collectors_trace_the_same_vms_and_those_that_come_later() {
    let folder = folder();
    let traces = ["1.trace", "2.trace"].map(|name| folder.path().join(name));
    let mut first = Vmm::small(&["--pages", "16384", "--pause-ms", "2"]);
    first.go();
    let mut attached = traces.each_ref().map(|trace| {
        let args = ["--all", "--keyframe-every", "0.3", "--for", "300"];
        Attached::start(trace, &args)
    });
    attached
        .iter_mut()
        .for_each(|one| one.until_traced(&[first.pid()]));
    // A guest of the collector's own VMM is as foreign to them as any.
    let output = run(collector()
        .args(["run", "demand", "-p", "pages=2000", "-o"])
        .arg(folder.path().join("r.trace")));
    expect_code(&output, 0);
    let mut second = Vmm::small(&["--pages", "512", "--pause-ms", "5"]);
    second.go();
    attached
        .iter_mut()
        .for_each(|one| one.until_traced(&[second.pid()]));
    first.expect("touched");
    second.kill();
    thread::sleep(Duration::from_millis(1500));
    for (attached, trace) in attached.into_iter().zip(&traces) {
        let outcome = attached.stop();
        let verified = analyze("verify", trace);
        for (pid, ended) in [
            (first.pid(), Value::Null),
            (second.pid(), "its process ended".into()),
        ] {
            let [vm] = &of_process(&outcome, pid)[..] else {
                panic!("one VM of process {pid}: {outcome}");
            };
            assert_eq!(vm["ended"], ended);
            exact(&verified, &vm["vm"]);
        }
    }
    let verified = run(analyzer().arg("verify").arg(folder.path().join("r.trace")));
    expect_code(&verified, 0);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_trace_of_a_foreign_vm_belongs_to_whoever_called_sudo() {
    let folder = folder();
    std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534)).expect("root may");
    let trace = folder.path().join("s.trace");
    let mut command = collector();
    command.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
    let mut attached = Attached::spawn(command, &trace, &["--all"]);
    // Root's own, and later than the collector became somebody else.
    while !trace.join("meta.json").exists() {
        thread::sleep(Duration::from_millis(20));
    }
    let mut vmm = Vmm::small(&["--pages", "512"]);
    attached.until_traced(&[vmm.pid()]);
    vmm.go();
    vmm.expect("touched");
    let outcome = attached.stop();
    let [vm] = &of_process(&outcome, vmm.pid())[..] else {
        panic!("one VM: {outcome}");
    };
    exact(&analyze("verify", &trace), &vm["vm"]);
    let metadata = trace.join("faults").metadata().expect("there");
    assert_eq!((metadata.uid(), metadata.gid()), (65534, 65534));
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_what_cannot_be_traced_is_refused_with_the_reason() {
    let folder = folder();
    let trace = folder.path().join("x.trace");
    let refused = |pid: &str, words: &[&str]| {
        let output = run(collector().args(["attach", "--pid", pid, "-o"]).arg(&trace));
        expect_code(&output, 1);
        for word in words {
            let said = stderr(&output);
            assert!(said.contains(word), "{word:?} in {said}");
        }
    };
    refused("4194305", &["no process 4194305"]);
    refused(
        &std::process::id().to_string(),
        &["has no VM", "collector list"],
    );
    let thread = thread::spawn(|| rustix::thread::gettid().as_raw_nonzero().get());
    let ended = thread.join().expect("a number").to_string();
    refused(&ended, &["no process"]);
    assert!(!trace.exists());

    // A debugger has it.
    let _alone = while_none_attaches_to_all();
    let vmm = Vmm::small(&["--pages", "64"]);
    let pid = i32::try_from(vmm.pid()).expect("a process id");
    // SAFETY: the request reads and writes no memory of ours.
    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) };
    assert_eq!(seized, 0, "{}", std::io::Error::last_os_error());
    refused(&vmm.pid().to_string(), &["traced by process", "debugger"]);
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_list_shows_what_runs() {
    let mut vmm = Vmm::small(&[
        "--vms",
        "2",
        "--vcpus",
        "2",
        "--pages",
        "65536",
        "--pause-ms",
        "1",
    ]);
    vmm.go();
    thread::sleep(Duration::from_millis(300));
    let listed = json(&run(collector().args(["list", "--json"])));
    let vms = listed.as_array().expect("VMs").iter();
    let vms: Vec<_> = vms.filter(|vm| vm["pid"] == vmm.pid()).collect();
    assert_eq!(vms.len(), 2, "{listed}");
    for vm in vms {
        assert_eq!(
            (&vm["name"], &vm["vcpus"]),
            (&"small_vmm".into(), &2.into()),
            "{vm}"
        );
        assert!(vm["shadow_pages"].as_u64() > Some(4), "{vm}");
        assert!(vm["faults_per_second"].as_f64() > Some(100.0), "{vm}");
    }
    let text = run(collector().arg("list"));
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains(&vmm.pid().to_string()), "{text}");
}

/// A VMM whose memory cannot be used is told so by KVM_RUN: no retry, and the reason is kept.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_fault_that_kvm_run_fails_on_has_its_errno() {
    let folder = folder();
    let trace = folder.path().join("f.trace");
    let mut vmm = Vmm::small(&["--pages", "64", "--refuse", "3"]);
    let pid = vmm.pid();
    let mut attached = Attached::start(&trace, &["--pid", &pid.to_string()]);
    attached.until_traced(&[pid]);
    vmm.go();
    vmm.expect("touched");
    let outcome = attached.stop();
    vmm.kill();
    assert_eq!(outcome["lost"], 0);
    let mut failed = Vec::new();
    for record in Trace::open(&trace).expect("a trace").records() {
        if let Record::Fault(fault) = record.expect("a whole trace") {
            assert_ne!(fault.class, Class::Retried, "{fault:?}");
            failed.extend((fault.class == Class::Failed).then_some(fault));
        }
    }
    let last_page = (1 << 39) + 63 * 4096;
    let found: Vec<_> = failed
        .iter()
        .map(|of| (of.gva.0 & !0xfff, of.errno))
        .collect();
    assert_eq!(found, [(last_page, Some(14)); 3]);
    expect_code(&run(analyzer().arg("verify").arg(&trace)), 0);
    let seq = failed[0].seq.0.to_string();
    let explained = run(analyzer().arg("explain").arg(&trace).args(["--seq", &seq]));
    expect_code(&explained, 0);
    let text = String::from_utf8_lossy(&explained.stdout).replace("\n   ", " ");
    assert!(text.contains("Bad address (os error 14)"), "{text}");
}

/// Memory that comes from swap, another machine or a snapshot may take seconds: the fault has its
/// whole time, in its class's total too, and says that its thread slept meanwhile.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_fault_that_waits_for_memory_has_its_whole_time() {
    const WAITS_NS: u64 = 4_600_000_000;
    let folder = folder();
    let trace = folder.path().join("slow.trace");
    let args = ["--pages", "128", "--slow-ms", "4600"];
    let mut vmm = Vmm::small(&args);
    let pid = vmm.pid();
    let mut attached = Attached::start(&trace, &["--pid", &pid.to_string()]);
    attached.until_traced(&[pid]);
    vmm.go();
    vmm.expect("touched");
    attached.stop();

    let recorded = Trace::open(&trace).expect("a trace");
    let faults = recorded
        .records()
        .filter_map(|record| match record.expect("a whole trace") {
            Record::Fault(fault) => Some(fault),
            _ => None,
        });
    let faults: Vec<_> = faults.collect();
    let slowest = faults.iter().max_by_key(|fault| fault.total_ns);
    let slowest = slowest.expect("a fault");
    assert!(slowest.total_ns >= WAITS_NS, "{slowest:?}");
    let lookup = slowest.pfn_ns.or(slowest.pfn_tables_ns);
    assert!(lookup >= Some(WAITS_NS), "{slowest:?}");
    assert!(slowest.switches > Some(0), "{slowest:?}");
    let awake = faults.iter().filter(|fault| fault.switches == Some(0));
    assert!(awake.count() > 64, "most faults do not sleep");

    let summary = analyze("summary", &trace);
    let class = &summary["vms"][0]["classes"][slowest.class.name()];
    let of_class = faults.iter().filter(|fault| fault.class == slowest.class);
    let total: u64 = of_class.map(|fault| fault.total_ns).sum();
    assert_eq!(class["total_ns"], total, "{class}");
    assert_eq!(class["max_ns"], slowest.total_ns, "{class}");
    let out = &class["switched_out"];
    assert!(out["total_ns"].as_u64() >= Some(WAITS_NS), "{class}");
    assert!(out["others_p99_ns"].as_u64() < Some(WAITS_NS), "{class}");
    let text = |command: &mut std::process::Command| {
        let output = run(command.arg(&trace));
        expect_code(&output, 0);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = text(analyzer().arg("summary"));
    assert!(said.contains("switched out"), "{said}");
    let seq = slowest.seq.0.to_string();
    let said = text(analyzer().args(["explain", "--seq", &seq]));
    let words = ["took 4.6", "switched out"];
    assert!(words.iter().all(|words| said.contains(words)), "{said}");
}

/// Each look at the memslots finds one of two places, and the slot was at the other one in between.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_memslot_that_moves_away_and_back_between_looks_is_unknown_and_never_wrong() {
    let folder = folder();
    let trace = folder.path().join("m.trace");
    let mut vmm = Vmm::small(&["--move-slot", "--pages", "256", "--pause-ms", "20"]);
    let pid = vmm.pid().to_string();
    let args = ["--pid", &pid, "--keyframe-every", "0.5"];
    let mut attached = Attached::start(&trace, &args);
    attached.until_traced(&[vmm.pid()]);
    vmm.go();
    vmm.expect("touched");
    thread::sleep(Duration::from_secs(2));

    assert_eq!(attached.stop()["lost"], 0);

    let verified = analyze("verify", &trace);
    exact(&verified, &verified["vms"][0]["vm"]);
    let checks = verified["vms"][0]["faults"].as_array().expect("checks");
    assert!(!checks.is_empty());
    for check in checks {
        assert_eq!(check["wrong"], 0, "{check}");
    }

    let recording = Trace::open(&trace).expect("a trace");
    let vm = &recording.meta().vms[0];
    assert!(!vm.memslots_changed.is_empty(), "{vm:?}");
    let mut hvas = std::collections::BTreeSet::new();
    for record in recording.records() {
        if let Record::Fault(fault) = record.expect("a whole trace")
            && let (Some(hva), Some(gpa)) = (fault.hva, fault.gpa)
        {
            hvas.insert(hva.0 - gpa.0);
        }
    }
    assert_eq!(hvas.len(), 2, "the slot was at two places: {hvas:x?}");
    let explained = run(analyzer()
        .arg("explain")
        .arg(&trace)
        .args(["--class", "shadow"]));
    let explained = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(
        explained.contains("memslots changed since the last look"),
        "{explained}"
    );
}

/// A moved memslot makes the root invalid while its vCPU has it: KVM zaps it once more when the vCPU
/// comes back, and no list that a keyframe copies has it in between.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_a_root_that_was_zapped_before_the_collector_came_is_counted() {
    let folder = folder();
    let mut vmm = Vmm::small(&["--move-slot", "--pages", "256", "--pause-ms", "20"]);
    vmm.go();
    vmm.expect("touched");
    let pid = vmm.pid().to_string();
    for round in 0..3 {
        let trace = folder.path().join(format!("{round}.trace"));
        let mut attached = Attached::start(&trace, &["--pid", &pid, "--keyframe-every", "0.2"]);
        attached.until_traced(&[vmm.pid()]);
        thread::sleep(Duration::from_secs(1));
        assert_eq!(attached.stop()["lost"], 0);
        let verified = analyze("verify", &trace);
        exact(&verified, &verified["vms"][0]["vm"]);
    }
}
