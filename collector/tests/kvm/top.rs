//! `collector top`: what running VMs do now.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{collector, expect_code, vmm::Vmm};

/// Starts `top`, and waits until it follows the VMs: its first look is on standard output.
fn started(args: &[&str]) -> Child {
    let mut child = collector()
        .arg("top")
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let out = child.stdout.as_mut().expect("piped");
    let mut first = [0; 1];
    out.read_exact(&mut first).expect("a look");
    child
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_top_counts_what_kvm_counts() {
    let mut vmm = Vmm::small(&["--vms", "2", "--vcpus", "2", "--pages", "2048"]);
    let pid = vmm.pid().to_string();
    let top = started(&["--pid", &pid, "--interval", "0.5", "--for", "8", "--json"]);
    vmm.go();
    vmm.expect("touched");
    let output = top.wait_with_output().expect("a child");
    expect_code(&output, 0);
    // The first byte was read already.
    let text = format!("{{{}", String::from_utf8_lossy(&output.stdout));
    let (mut counted, mut taken) = (BTreeMap::<u64, u64>::new(), BTreeMap::<u64, u64>::new());
    let (mut looks, mut pages) = (0, BTreeMap::new());
    for line in text.lines() {
        let look: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(look["lost"], 0);
        looks += 1;
        for vm in look["vms"].as_array().expect("VMs") {
            let number = vm["vm"].as_u64().expect("a number");
            let classes = vm["classes"].as_array().expect("classes").iter();
            let faults = classes.map(|class| class["count"].as_u64().expect("a number"));
            *counted.entry(number).or_default() += faults.sum::<u64>();
            *taken.entry(number).or_default() += vm["taken"].as_u64().expect("a number");
            pages.insert(number, vm["shadow_pages"].as_u64().expect("a number"));
        }
    }
    assert!(looks > 8, "{looks} looks");
    assert_eq!(counted, taken);
    assert!(pages.values().all(|pages| *pages > 4), "{pages:?}");
    assert!(
        counted.len() == 2 && counted.values().all(|count| *count >= 4096),
        "{counted:?}"
    );
}

/// A VMM that never leaves KVM_RUN while it is watched: nothing announces its vCPU.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_top_sees_a_vcpu_that_was_in_kvm_run_before() {
    let mut run = collector()
        .args(["run", "unsync", "-p", "rounds=10000", "--untraced"])
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    thread::sleep(Duration::from_secs(1));
    let pid = run.id().to_string();
    let args = [
        "top",
        "--pid",
        &pid,
        "--interval",
        "0.5",
        "--for",
        "2",
        "--json",
    ];
    let output = collector().args(args).output().expect("it runs");
    run.kill().expect("it runs still");
    run.wait().expect("a child");
    expect_code(&output, 0);
    let text = String::from_utf8_lossy(&output.stdout);
    let looks = text.lines().map(|line| {
        let look: Value = serde_json::from_str(line).expect("JSON");
        let vm = &look["vms"][0];
        let classes = vm["classes"].as_array().expect("classes").iter();
        let counted: u64 = classes.filter_map(|class| class["count"].as_u64()).sum();
        [counted, vm["taken"].as_u64().expect("a number")]
    });
    // Nothing is known of it before the first look.
    let looks: Vec<_> = looks.skip(1).collect();
    assert!(looks.iter().all(|[counted, _]| *counted > 100), "{looks:?}");
    // The two are not read at one moment: what one look misses is counted at the next.
    let [counted, taken] = [0, 1].map(|of| looks.iter().map(|look| look[of]).sum::<u64>());
    assert!(counted.abs_diff(taken) <= taken / 10, "{looks:?}");
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_top_is_a_line_for_each_vm_without_a_terminal() {
    let mut vmm = Vmm::small(&["--pages", "1024", "--discard"]);
    vmm.go();
    vmm.expect("touched");
    let pid = vmm.pid().to_string();
    let mut top = collector()
        .args(["top", "--pid", &pid, "--interval", "0.5"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(top.stdout.take().expect("piped")).lines();
    let line = lines.nth(1).expect("a second look").expect("text");
    // It ends with the VMs.
    vmm.kill();
    lines.for_each(|line| drop(line.expect("text")));
    assert!(top.wait().expect("a child").success());
    for words in [
        "VM 0",
        &pid,
        "faults/s",
        "of a CPU",
        "shadow pages",
        "; shadow ",
    ] {
        assert!(line.contains(words), "{words:?} in {line}");
    }
}

/// A terminal of this test's own, and `top` on it.
struct Terminal {
    master: File,
    child: Child,
}

impl Terminal {
    fn start(args: &[&str]) -> Self {
        let (mut master, mut slave) = (-1, -1);
        let none = std::ptr::null_mut();
        // SAFETY: both point to descriptors, and nothing else is asked for.
        let opened =
            unsafe { libc::openpty(&mut master, &mut slave, none, none.cast(), none.cast()) };
        assert_eq!(opened, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: just opened, and owned by nobody else.
        let (master, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        // SAFETY: a descriptor of this process, and a flag.
        unsafe { libc::fcntl(master.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
        let mut command = collector();
        command.arg("top").args(args);
        let stdio = || Stdio::from(slave.try_clone().expect("a copy"));
        command.stdin(stdio()).stdout(stdio()).stderr(stdio());
        // SAFETY: two system calls without memory of ours: standard input becomes the terminal of
        // a session of its own.
        unsafe {
            command.pre_exec(|| {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            });
        }
        let child = command.spawn().expect("the program starts");
        let terminal = Self { master, child };
        terminal.resize(100, 30);
        terminal
    }

    fn resize(&self, columns: u16, rows: u16) {
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: reads the struct, which lives until the call returns.
        let set = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }

    /// What comes until it holds `words`.
    fn until(&mut self, words: &str) -> String {
        let (begin, mut text) = (Instant::now(), String::new());
        while !text.contains(words) {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "{words:?} in {text:?}"
            );
            text += &self.read();
            thread::sleep(Duration::from_millis(20));
        }
        text
    }

    fn read(&mut self) -> String {
        let mut bytes = [0; 1 << 16];
        match self.master.read(&mut bytes) {
            Ok(count) => String::from_utf8_lossy(&bytes[..count]).into_owned(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => String::new(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// The last whole screen.
fn screen(text: &str) -> &str {
    text.rsplit("\x1b[H")
        .nth(1)
        .expect("a screen that another one follows")
}

#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_top_survives_a_resize_and_a_terminal_that_nobody_reads() {
    let mut vmm = Vmm::small(&["--pages", "1024", "--discard"]);
    vmm.go();
    vmm.expect("touched");
    let pid = vmm.pid().to_string();
    let mut terminal = Terminal::start(&["--pid", &pid, "--interval", "0.1"]);
    let text = terminal.until("  shadow");
    assert!(
        text.contains("\x1b[?1049h") && text.contains("faults/s"),
        "{text:?}"
    );

    terminal.resize(20, 3);
    let mut text = terminal.until("more lines");
    text += &terminal.until("more lines");
    let plain = screen(&text).replace("\x1b[J", "");
    let lines: Vec<_> = plain.split("\x1b[K").collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(
        lines.iter().all(|line| line.trim().len() <= 20),
        "{lines:?}"
    );

    // The terminal's buffer is full long before.
    thread::sleep(Duration::from_secs(10));
    terminal.resize(100, 30);
    terminal.until("CPU %");
    terminal.master.write_all(b"q").expect("a key");
    terminal.until("\x1b[?1049l");
    assert!(terminal.child.wait().expect("a child").success());
}

/// The pipe is full long before, and nobody reads on.
#[test]
#[ignore = "needs root and a shadow MMU (/dev/kvm)"]
fn kvm_top_ends_though_nobody_reads_its_looks() {
    let vmm = Vmm::small(&["--pages", "64"]);
    let pid = vmm.pid().to_string();
    for signal in [Signal::TERM, Signal::INT] {
        let mut top = started(&["--pid", &pid, "--interval", "0.001", "--json"]);
        let out = top.stdout.as_ref().expect("piped").as_raw_fd();
        let is_full = || {
            let mut bytes: libc::c_int = 0;
            // SAFETY: writes one number.
            let asked = unsafe { libc::ioctl(out, libc::FIONREAD, &raw mut bytes) };
            assert_eq!(asked, 0, "{}", std::io::Error::last_os_error());
            bytes > 60_000
        };
        let begin = Instant::now();
        while !is_full() {
            assert!(
                begin.elapsed() < Duration::from_secs(60),
                "the pipe is full"
            );
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_millis(200));
        kill_process(Pid::from_child(&top), signal).expect("a signal");
        let begin = Instant::now();
        while top.try_wait().expect("a child").is_none() {
            if begin.elapsed() > Duration::from_secs(10) {
                top.kill().expect("it lives");
                panic!("{signal:?} does not end it");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
