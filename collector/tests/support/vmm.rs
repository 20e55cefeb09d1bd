//! Other VMMs, and `collector attach` while they run.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{collector, json};

/// Longest time that anything here may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed at the end.
pub struct Vmm {
    child: Child,
    out: Option<BufReader<ChildStdout>>,
}

impl Vmm {
    /// `examples/small_vmm`, with its VMs made and no vCPU started.
    pub fn small(args: &[&str]) -> Self {
        let path = Path::new(env!("CARGO_BIN_EXE_collector"))
            .with_file_name("examples")
            .join("small_vmm");
        assert!(
            path.exists(),
            "{} is not built: run `cargo build --release --examples`",
            path.display()
        );
        let mut vmm = Self::spawn(Command::new(path).args(args));
        vmm.expect("ready");
        vmm
    }

    /// QEMU, while its firmware runs.
    pub fn qemu() -> Self {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-accel", "kvm", "-m", "64", "-nodefaults"]);
        Self::spawn(command.args(["-display", "none"]))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let out = child.stdout.take().map(BufReader::new);
        Self { child, out }
    }

    /// Starts the vCPUs.
    pub fn go(&mut self) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(b"go\n").expect("it reads");
    }

    /// Waits for a line.
    pub fn expect(&mut self, line: &str) {
        let mut found = String::new();
        let out = self.out.as_mut().expect("piped");
        out.read_line(&mut found).expect("it writes");
        assert_eq!(found.trim(), line);
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("a child");
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        // It may have been killed by the test already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `attach --all` waits for a thread that another process holds, also for that of another test.
static EVERY_VM: RwLock<()> = RwLock::new(());

/// While this lives, no test attaches to every VM, and a thread of a VM may be held for long.
pub fn while_none_attaches_to_all() -> RwLockWriteGuard<'static, ()> {
    // Waiting in line would hold up a test that attaches twice.
    loop {
        match EVERY_VM.try_write() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// `collector attach` under way.
pub struct Attached {
    child: Child,
    trace: PathBuf,
    _every_vm: Option<RwLockReadGuard<'static, ()>>,
}

impl Attached {
    /// `args` say to what.
    pub fn start(trace: &Path, args: &[&str]) -> Self {
        Self::spawn(collector(), trace, args)
    }

    pub fn spawn(mut command: Command, trace: &Path, args: &[&str]) -> Self {
        let every_vm = args.contains(&"--all");
        let every_vm = every_vm.then(|| EVERY_VM.read().unwrap_or_else(PoisonError::into_inner));
        let child = command
            .arg("attach")
            .args(args)
            .args(["--json", "-o"])
            .arg(trace)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        Self {
            child,
            trace: trace.to_owned(),
            _every_vm: every_vm,
        }
    }

    /// Waits until VMs of these processes are recorded.
    pub fn until_traced(&mut self, pids: &[u32]) {
        let begin = Instant::now();
        while !pids.iter().all(|pid| self.traces(*pid)) {
            assert!(begin.elapsed() < PATIENCE, "nothing is traced");
            let ended = self.child.try_wait().expect("a child");
            assert!(ended.is_none(), "ended early: {}", self.last_words());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it has a descriptor whose name holds `words`.
    pub fn until_it_holds(&mut self, words: &str) {
        let begin = Instant::now();
        let folder = format!("/proc/{}/fd", self.child.id());
        let holds = || {
            let links = fs::read_dir(&folder).into_iter().flatten().flatten();
            let mut targets = links.filter_map(|link| fs::read_link(link.path()).ok());
            targets.any(|target| target.to_string_lossy().contains(words))
        };
        while !holds() {
            assert!(begin.elapsed() < PATIENCE, "no descriptor of {words}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What the program printed about its end.
    fn last_words(&mut self) -> String {
        let mut text = String::new();
        if let Some(errors) = &mut self.child.stderr {
            errors.read_to_string(&mut text).expect("text");
        }
        text
    }

    fn traces(&self, pid: u32) -> bool {
        let text = fs::read_to_string(self.trace.join("meta.json")).unwrap_or_default();
        let meta: Value = serde_json::from_str(&text).unwrap_or_default();
        let vms = meta["vms"].as_array().cloned().unwrap_or_default();
        vms.iter().any(|vm| vm["pid"] == pid)
    }

    /// Ctrl-C.
    pub fn stop(mut self) -> Value {
        self.signal(Signal::INT);
        self.ended()
    }

    /// Whether it has ended by itself.
    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    pub fn signal(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal");
    }

    /// It ends by itself.
    pub fn ended(self) -> Value {
        json(&self.output())
    }

    pub fn output(self) -> Output {
        self.child.wait_with_output().expect("a child")
    }
}
