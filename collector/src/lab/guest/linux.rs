//! The lab's Linux guest: QEMU on the lab's KVM, recorded by `attach` from before its first
//! instruction until it has powered off.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};

use super::{
    command::{self, Running},
    kallsyms::{self, Code},
    port::Port,
    qmp::Qmp,
};
use crate::{
    lab::job::{GUEST_DONE, GUEST_INITRAMFS, GUEST_KERNEL, Job, Linux},
    terminal,
};

/// Time between two checks whether `attach` has found the VM.
const POLL: Duration = Duration::from_millis(50);

/// Runs the guest and records it to `output`, if the job says so; the exit code of `attach`.
pub fn run(job: &Job, linux: &Linux, output: Option<&Path>, port: &Port) -> anyhow::Result<u8> {
    let mut vmm = Vmm::start(linux)?;
    let recording = match &linux.attach {
        None => None,
        Some(words) => match attach(job, words, vmm.qemu.id(), output, port)? {
            Attached::Yes(recording) => Some(recording),
            // It has printed its error.
            Attached::No(code) => return Ok(code),
        },
    };
    vmm.qmp.execute("cont")?;
    let ran = vmm.until_power_off();
    // QEMU keeps the stopped VM: its tables are copied as the guest left them.
    let code = match recording {
        Some(recording) => {
            recording.terminate()?;
            recording.wait()?
        }
        None => 0,
    };
    ran?;
    let console = vmm.finish()?;
    if let (Some(output), Some(_)) = (output, &linux.attach) {
        // Without names the trace is as good as before.
        if let Err(error) = name_functions(output, console.code) {
            terminal::say(format_args!(
                "warning: the trace has no names of the guest's functions: {error:#}"
            ));
        }
    }
    Ok(code)
}

/// Adds the names of the guest's functions to its trace.
fn name_functions(trace: &Path, code: Code) -> anyhow::Result<()> {
    let list = fs::read_to_string("/proc/kallsyms").context("while reading /proc/kallsyms")?;
    let names = kallsyms::moved(&list, code).context("while naming the guest's functions")?;
    let path = trace.join(trace::SYMBOLS);
    fs::write(&path, names).with_context(|| format!("while writing {}", path.display()))
}

/// QEMU on the lab's KVM, without its console.
pub fn qemu(linux: &Linux) -> Command {
    let mut command = Command::new(&linux.qemu);
    command
        .env("LD_LIBRARY_PATH", &linux.library_path)
        .args(["-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-accel", "kvm"])
        .args(["-smp", &linux.cpus.to_string()])
        .args(["-m", &linux.memory_mib.to_string()])
        .args(["-kernel", GUEST_KERNEL, "-initrd", GUEST_INITRAMFS])
        .args(["-append", "console=ttyS0 panic=-1 quiet"]);
    command
}

/// Whether `attach` records.
pub enum Attached {
    /// It does.
    Yes(Running),
    /// It has ended with this exit code.
    No(u8),
}

/// Starts `attach`, and waits until the trace names the VM.
pub fn attach(
    job: &Job,
    words: &[String],
    pid: u32,
    output: Option<&Path>,
    port: &Port,
) -> anyhow::Result<Attached> {
    let meta = output
        .context("a recording needs an output")?
        .join("meta.json");
    let words = [words, &["--pid".to_owned(), pid.to_string()]].concat();
    let mut recording = command::start(job, &words, port)?;
    // How long that takes depends on the machine; the lab has a limit of its own.
    while !names_a_vm(&meta) {
        if recording.has_ended()? {
            return Ok(Attached::No(recording.wait()?));
        }
        thread::sleep(POLL);
    }
    Ok(Attached::Yes(recording))
}

/// At first there is no file, and then it names no VM.
fn names_a_vm(meta: &Path) -> bool {
    fs::read(meta)
        .ok()
        .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
        .is_some_and(|meta| meta["vms"].as_array().is_some_and(|vms| !vms.is_empty()))
}

/// QEMU and its guest's console.
struct Vmm {
    qemu: Child,
    qmp: Qmp,
    console: JoinHandle<Console>,
}

/// What the guest printed.
#[derive(Clone, Copy, Debug, Default)]
struct Console {
    /// All its work is done.
    done: bool,
    /// Where its kernel's code is.
    code: Code,
}

impl Vmm {
    /// Starts QEMU with the guest stopped before its first instruction.
    fn start(linux: &Linux) -> anyhow::Result<Self> {
        let (here, there) = UnixStream::pair()?;
        let mut qemu = qemu(linux)
            .args(["-S", "-no-shutdown"])
            .args(["-chardev", "file,id=console,path=/proc/self/fd/1"])
            .args(["-serial", "chardev:console"])
            // Standard input is the socket.
            .args(["-chardev", "socket,id=qmp,fd=0"])
            .args(["-mon", "chardev=qmp,mode=control"])
            .stdin(OwnedFd::from(there))
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("while starting {} in the lab", linux.qemu.display()))?;
        let console = qemu.stdout.take().context("QEMU has no pipe")?;
        let console = thread::spawn(move || forward(console));
        let qmp = Qmp::open(here).context("while starting QEMU in the lab")?;
        Ok(Self { qemu, qmp, console })
    }

    fn until_power_off(&mut self) -> anyhow::Result<()> {
        loop {
            match self.qmp.event()?.as_str() {
                "SHUTDOWN" => return Ok(()),
                "RESET" => bail!("the Linux guest reset itself"),
                "STOP" => {
                    let status = self.qmp.execute("query-status")?;
                    bail!(
                        "the Linux guest stopped before it was done ({}); QEMU 7.2 cannot run one \
                         on kernels since 6.14",
                        status["status"]
                    );
                }
                _ => {}
            }
        }
    }

    /// Ends QEMU; an error if the guest did not do all its work.
    fn finish(mut self) -> anyhow::Result<Console> {
        self.qmp.execute("quit")?;
        self.qemu.wait()?;
        let console = self
            .console
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ensure!(
            console.done,
            "the Linux guest powered off before its work was done"
        );
        Ok(console)
    }
}

/// Copies the guest's console to the lab's.
fn forward(console: impl Read) -> Console {
    let mut seen = Console::default();
    let mut console = BufReader::new(console);
    let mut line = Vec::new();
    while console
        .read_until(b'\n', &mut line)
        .is_ok_and(|read| read > 0)
    {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        seen.done |= text == GUEST_DONE;
        seen.code.read(text);
        terminal::show(format_args!("guest: {text}"));
        line.clear();
    }
    seen
}
