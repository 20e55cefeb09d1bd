//! `collector lab`: a stock distribution kernel in QEMU or Bochs with KVM's shadow MMU, and this
//! program as its init. Needs no root, no KVM and no special machine.
//!
//! ```text
//! mod          the lab from start to end, on the host's side
//! kernel       finds the kernel image and its modules' directory
//! modules      module files, in load order
//! initramfs    the archive with everything that the lab needs
//! itself       this program, as small as it gets
//! linux        what a Linux guest needs in addition
//! vmlinux      the kernel out of its image, for an emulator that boots no image
//! vendor       what depends on the vendor of the CPU
//! machine      the emulator
//! deadline     ends the machine at the time limit or at Ctrl-C
//! job          the protocol between host and lab
//! conversation the host's end of the protocol
//! screen       what is printed meanwhile, by a thread of its own
//! guest        the lab's side: its PID 1
//! ```

mod conversation;
mod deadline;
pub mod guest;
mod initramfs;
mod itself;
mod job;
mod kernel;
mod linux;
mod machine;
mod modules;
mod screen;
mod vendor;
mod vmlinux;

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow};
use tempfile::TempDir;

use crate::{failure::Failure, privileges, program, recording};
use conversation::Heard;
use deadline::{Deadline, Stop, Stopped};
use initramfs::Initramfs;
use job::{Job, Module, OBSERVED, OUTPUT, Stage, Trouble};
use kernel::{Kernel, KernelError};
use linux::{LinuxError, LinuxGuest, Load};
use machine::{BochsError, Emulator, Machine, MachineError, Parts};
use modules::{Loadable, ModuleError, Tree};
use screen::Screen;
pub use vendor::Vendor;

/// What to do in the lab.
#[derive(Debug)]
pub struct Options {
    /// What runs in the lab.
    pub work: Work,
    /// What is copied out of the lab.
    pub output: Option<Output>,
    /// File for the counts of an independent observer.
    pub observer: Option<PathBuf>,
    /// A module to load again with another parameter before a second run of the command.
    pub reload: Option<(String, String)>,
    /// Vendor of the lab's CPU.
    pub vendor: Vendor,
    /// QEMU; `None`: the one in PATH.
    pub qemu: Option<PathBuf>,
    /// Bochs; `None`: the one in PATH.
    pub bochs: Option<PathBuf>,
    /// Directory or image of the kernel; `None`: an installed one.
    pub kernel: Option<PathBuf>,
    /// Directory of its modules; `None`: the kernel's own.
    pub modules: Option<PathBuf>,
    /// Parameters of modules, each as the name of the module and `name=value`.
    pub parameters: Vec<(String, String)>,
    /// Number of CPUs of the lab.
    pub cpus: u16,
    /// Memory of the lab, MiB.
    pub memory_mib: u32,
    /// Time limit for all of it.
    pub timeout: Duration,
    /// Print the lab's console.
    pub verbose: bool,
}

/// What runs.
#[derive(Debug)]
pub enum Work {
    /// The collector with these arguments.
    Command(Vec<String>),
    /// A Linux guest.
    Linux(Linux),
}

/// A Linux guest.
#[derive(Debug)]
pub struct Linux {
    /// Number of its CPUs.
    pub cpus: u16,
    /// Its memory, MiB.
    pub memory_mib: u32,
    /// Arguments of the collector that record it; `None`: it is not recorded.
    pub attach: Option<Vec<String>>,
    /// Arguments of the collector in it, which run a workload in a guest of its own; `None`: it
    /// runs processes.
    pub nested: Option<Vec<String>>,
}

/// What is copied out of the lab.
#[derive(Debug)]
pub struct Output {
    /// Path in the lab.
    pub inside: PathBuf,
    /// Path on this host; must not exist yet.
    pub outside: PathBuf,
}

/// Boots the lab, runs the work, and copies the results out.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    let outputs = options.output.iter().map(|output| &output.outside);
    for output in outputs.chain(&options.observer) {
        recording::check_output(output)?;
    }
    let found = find(options)?;
    // Also before the machine starts: temporary files are deleted in any case.
    let cancel = recording::cancel_on_signal()?;
    let results = results(options)?;
    let directory = tempfile::Builder::new()
        .prefix("shadowscope-lab-")
        .tempdir()
        .context("while creating a directory for the lab")?;
    let image = directory.path().join("kernel");
    let initramfs = directory.path().join("initramfs");
    fs::write(&image, &found.image).context("while copying the kernel")?;
    pack(options, &found, &image, &initramfs)?;

    let stop = Arc::new(Stop::default());
    let mut screen = Screen::start(&found.kernel.release, options, Arc::clone(&stop))
        .context("while starting to print")?;
    let show = screen.console(options.verbose);
    let command_line = command_line(options, &found.emulator);
    let parts = Parts {
        directory: directory.path(),
        kernel: &image,
        initramfs: &initramfs,
        command_line: &command_line,
        cpus: options.cpus,
        memory_mib: options.memory_mib,
    };
    let (mut machine, link) = Machine::start(&found.emulator, &parts, show).map_err(not_started)?;
    let deadline = Deadline::start(cancel, machine.pid(), options.timeout, Arc::clone(&stop))
        .context("while starting the lab's time limit")?;
    let heard = conversation::listen(
        BufReader::new(link.from),
        link.to,
        &mut screen,
        results.as_ref().map(TempDir::path),
        // The results are in the lab's memory.
        u64::from(options.memory_mib) << 20,
    );
    if heard.is_err() {
        // Nothing that it still sends can be used.
        machine.kill();
    }
    let tail = machine.wait().context("while waiting for the emulator")?;
    let stopped = stop.why();

    // A message that was cut by a signal or the time limit is no separate error.
    let heard = match (heard, &stopped) {
        (Err(_), Some(_)) => Ok(Heard::until(screen.stage)),
        (heard, _) => heard.map_err(Failure::from),
    };
    let outcome = heard
        .and_then(|heard| verdict(options, &found.emulator, heard, stopped, &tail))
        .and_then(|code| {
            if let Some(results) = &results {
                copy_results(options, results.path())?;
            }
            Ok(code)
        });
    // The results are in their place: what is left is to print, also before an error.
    let printed = screen.finish();
    deadline.finish();
    let code = outcome?;
    match printed {
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let context = "while printing the lab's output; its results are complete";
            Err(Failure::failed(anyhow!(error).context(context)))
        }
        _ => Ok(ExitCode::from(code)),
    }
}

/// What a lab is made of.
struct Found {
    emulator: Emulator,
    kernel: Kernel,
    modules: Modules,
    /// The kernel's image.
    image: Vec<u8>,
    /// Another QEMU, for a Linux guest; `None`: there is no such guest.
    guest: Option<PathBuf>,
}

/// Finds and reads what the lab is made of, and drops root.
fn find(options: &Options) -> Result<Found, Failure> {
    let given = match options.vendor {
        Vendor::Amd => &options.qemu,
        Vendor::Intel => &options.bochs,
    };
    let emulator = Emulator::find(options.vendor, given.as_deref()).map_err(no_emulator)?;
    within_limits(options, &emulator)?;
    let guest = match (&options.work, &options.qemu) {
        (Work::Command(_), _) => None,
        (Work::Linux(_), Some(qemu)) => Some(qemu.clone()),
        (Work::Linux(_), None) => Some(machine::qemu().map_err(no_emulator)?),
    };
    let root = options.kernel.as_deref().unwrap_or(Path::new("/"));
    let kernel = Kernel::find(root, options.modules.as_deref()).map_err(no_kernel)?;
    let modules = Modules::of(&kernel, options.vendor, emulator.port()).map_err(|error| {
        Failure::host(error).hint(
            "the kernel of a distribution has these modules: --kernel DIR uses another kernel",
        )
    })?;
    // Before root is dropped: some distributions let only root read the image.
    let image = fs::read(&kernel.image)
        .with_context(|| format!("while reading {}", kernel.image.display()))?;
    if privileges::is_root() {
        privileges::drop_root()?;
    }
    Ok(Found {
        emulator,
        kernel,
        modules,
        image,
        guest,
    })
}

fn within_limits(options: &Options, emulator: &Emulator) -> Result<(), Failure> {
    let Some((cpus, memory_mib)) = emulator.limits() else {
        return Ok(());
    };
    if options.cpus <= cpus && options.memory_mib <= memory_mib {
        return Ok(());
    }
    let error = anyhow!(
        "a lab with {} CPUs and {} MiB of memory: on {} it has at most {cpus} CPU and {memory_mib} \
         MiB",
        options.cpus,
        options.memory_mib,
        emulator.name(),
    );
    Err(Failure::usage(error).hint("the vCPUs of a guest share one CPU of the lab"))
}

/// The modules of one kernel that the lab loads.
struct Modules {
    port: Vec<Loadable>,
    kvm: Vec<Loadable>,
}

impl Modules {
    fn of(kernel: &Kernel, vendor: Vendor, port: job::Port) -> Result<Self, ModuleError> {
        let tree = Tree::open(&kernel.modules)?;
        let port = tree.closure(port.modules())?;
        let mut kvm = tree.closure(&[vendor.module()])?;
        kvm.retain(|module| !port.contains(module));
        Ok(Self { port, kvm })
    }
}

/// A directory on the file system of the output, so that what is unpacked there can be renamed.
fn results(options: &Options) -> Result<Option<TempDir>, Failure> {
    let Some(output) = options.output.as_ref() else {
        return Ok(None);
    };
    let parent = match output.outside.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let directory = tempfile::Builder::new()
        .prefix(".shadowscope-lab-")
        .tempdir_in(parent)
        .with_context(|| format!("while creating a directory in {}", parent.display()))?;
    Ok(Some(directory))
}

fn copy_results(options: &Options, from: &Path) -> Result<(), Failure> {
    if let Some(output) = &options.output {
        copy_out(&from.join(OUTPUT), &output.outside)?;
    }
    match &options.observer {
        Some(observer) => copy_out(&from.join(OBSERVED), observer),
        None => Ok(()),
    }
}

/// Moves a result to its place; what the lab did not produce is skipped.
fn copy_out(from: &Path, to: &Path) -> Result<(), Failure> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::failed(
            anyhow!(error).context(format!("while creating {}", to.display())),
        )),
        _ => Ok(()),
    }
}

fn pack(options: &Options, found: &Found, image: &Path, to: &Path) -> Result<(), Failure> {
    let modules = &found.modules;
    let file = File::create(to).context("while creating the lab's initramfs")?;
    let mut archive = Initramfs::new(BufWriter::with_capacity(1 << 20, file))?;
    let program = itself::stripped().context("while reading this program")?;
    archive.program("/init", &program)?;
    archive.directory(job::WORK)?;
    for module in modules.port.iter().chain(&modules.kvm) {
        let name = format!("{}/{}.ko", job::MODULES, module.name);
        archive.bytes(&name, &module.elf)?;
    }
    let work = pack_work(options, found, image, &mut archive)?;
    let parameters = parameters(options);
    let with_parameters = |modules: &[Loadable]| {
        let module = |module: &Loadable| Module {
            name: module.name.clone(),
            parameters: parameters
                .iter()
                .filter(|(name, _)| *name == module.name)
                .map(|(_, parameter)| parameter.as_str())
                .collect::<Vec<_>>()
                .join(" "),
        };
        modules.iter().map(module).collect()
    };
    let job = Job {
        port: found.emulator.port(),
        port_modules: with_parameters(&modules.port),
        kvm_modules: with_parameters(&modules.kvm),
        shadow: is_shadow(options, &parameters).then(|| options.vendor.parameter_file().into()),
        work,
        limit_s: options.timeout.as_secs(),
        output: options.output.as_ref().map(|output| output.inside.clone()),
        reload: options
            .reload
            .clone()
            .map(|(name, parameters)| Module { name, parameters }),
        observe: options.observer.is_some(),
        program: program::name(),
        analyzer: program::analyzer(),
    };
    archive.bytes(job::JOB, &serde_json::to_vec(&job)?)?;
    Ok(archive.finish()?)
}

/// With two-dimensional paging there are no shadow tables that the emulator could corrupt.
fn is_shadow(options: &Options, parameters: &[(String, String)]) -> bool {
    let (module, name) = (options.vendor.module(), options.vendor.two_dimensional());
    let on = format!("{name}=1");
    !parameters
        .iter()
        .any(|(of, parameter)| of == module && *parameter == on)
}

/// What the lab is to run, with the files that it needs for that.
fn pack_work(
    options: &Options,
    found: &Found,
    image: &Path,
    archive: &mut Initramfs<BufWriter<File>>,
) -> Result<job::Work, Failure> {
    let (linux, qemu) = match (&options.work, &found.guest) {
        (Work::Linux(linux), Some(qemu)) => (linux, qemu),
        (Work::Linux(_), None) => return Err(no_emulator(MachineError::NotFound("QEMU"))),
        (Work::Command(words), _) => return Ok(job::Work::Command(words.clone())),
    };
    let guest = LinuxGuest::find(qemu).map_err(no_linux)?;
    let load = match &linux.nested {
        None => Load::Processes { cpus: linux.cpus },
        Some(words) => Load::Nested {
            modules: &found.modules.kvm,
            words,
        },
    };
    guest.pack(archive, image, &load)?;
    Ok(match linux.nested {
        None => job::Work::Linux(guest.job(linux)),
        Some(_) => job::Work::Nested(guest.job(linux)),
    })
}

/// The lab's own parameters, then the user's: the kernel uses the last of several.
fn parameters(options: &Options) -> Vec<(String, String)> {
    let nested = matches!(&options.work, Work::Linux(linux) if linux.nested.is_some());
    let mut parameters = options.vendor.parameters(nested);
    parameters.extend(options.parameters.clone());
    parameters
}

fn command_line(options: &Options, emulator: &Emulator) -> String {
    let mut line = "console=ttyS0 panic=-1".to_owned() + emulator.command_line();
    if !options.verbose {
        line += " quiet";
    }
    // For a KVM that is built in; modules get their parameters when they are loaded.
    for (module, parameter) in parameters(options) {
        line += &format!(" {module}.{parameter}");
    }
    line + " -- " + guest::SUBCOMMAND
}

fn no_emulator(error: MachineError) -> Failure {
    let hint = match &error {
        MachineError::Bochs(_) | MachineError::NotFound("bochs") => format!(
            "{}; or --bochs PROGRAM: 2.7, as in Debian 12, is known to work, and 3.0 built with \
             --enable-vmx=2 --enable-x86-64 --with-nogui",
            apt_get("install --no-install-recommends bochs bochs-term bochsbios")
        ),
        _ => {
            let install = apt_get("install --no-install-recommends qemu-system-x86");
            format!("{install}; or --qemu PATH")
        }
    };
    Failure::host(error).hint(hint)
}

/// Why the machine could not be made or started.
fn not_started(error: MachineError) -> Failure {
    match error {
        MachineError::Bochs(BochsError::Boot(_)) => {
            Failure::usage(error).hint("--memory MIB sets the lab's memory")
        }
        MachineError::Bochs(BochsError::Kernel(_)) => Failure::host(error)
            .hint("--kernel DIR uses another kernel; Debian's are known to work"),
        _ => Failure::host(error),
    }
}

fn no_kernel(error: KernelError) -> Failure {
    let unreadable = error.unreadable();
    let hint = if unreadable.is_empty() {
        format!(
            "{} (Debian) or linux-image-generic (Ubuntu); or, without installing it: apt-get \
             download a linux-image package, dpkg -x it into a directory DIR, --kernel DIR",
            apt_get("install linux-image-amd64")
        )
    } else {
        let paths: Vec<_> = unreadable
            .iter()
            .map(|path| program::quoted(path))
            .collect();
        format!("sudo chmod a+r {}; or run this with sudo", paths.join(" "))
    };
    Failure::host(error).hint(hint)
}

fn no_linux(error: LinuxError) -> Failure {
    let hint = match error {
        LinuxError::Busybox => apt_get("install --no-install-recommends busybox-static"),
        _ => {
            let install = apt_get("install --no-install-recommends qemu-system-x86");
            format!("a Linux guest needs QEMU as a distribution installs it: {install}")
        }
    };
    Failure::host(error).hint(hint)
}

fn apt_get(words: &str) -> String {
    program::as_root(&format!("apt-get {words}"))
}

/// The command's exit code, or why there is none.
fn verdict(
    options: &Options,
    emulator: &Emulator,
    heard: Heard,
    stopped: Option<Stopped>,
    tail: &[String],
) -> Result<u8, Failure> {
    let (stage, console) = (doing(heard.stage), console(tail));
    match (heard.failed, heard.ended, stopped) {
        (Some(Trouble::Emulator(what)), ..) => Err(wrong_emulator(emulator, &what)),
        (Some(Trouble::Other(what)), ..) => {
            Err(Failure::failed(anyhow!("in the lab: {what}")).hint("-v shows the lab's console"))
        }
        (None, _, Some(Stopped::Interrupted)) => {
            Err(Failure::failed(anyhow!("interrupted while {stage}")))
        }
        (None, _, Some(Stopped::Late)) => Err(Failure::failed(anyhow!(
            "the lab was not done after {} s, while {stage}{console}",
            options.timeout.as_secs_f64()
        ))
        .hint("--timeout SECONDS sets another limit; -v shows the console")),
        (None, Some(code), None) if heard.whole => Ok(code),
        (None, _, None) if heard.stage == Stage::SelfTest => Err(wrong_emulator(
            emulator,
            &format!("the lab's machine stopped while {stage}{console}"),
        )),
        (None, _, None) => Err(Failure::failed(anyhow!(
            "the lab's machine stopped while {stage}{console}"
        ))
        .hint("-v shows the whole console; --memory MIB sets the lab's memory")),
    }
}

fn wrong_emulator(emulator: &Emulator, what: &str) -> Failure {
    let (name, version) = (emulator.name(), emulator.version());
    let known = match emulator {
        Emulator::Qemu(_) => {
            "QEMU 7.2, as in Debian 12, is known to work: --qemu PATH uses another one"
        }
        Emulator::Bochs(_) => {
            "Bochs 2.7, as in Debian 12, is known to work: --bochs PROGRAM uses another one"
        }
    };
    Failure::host(anyhow!(
        "this {name} emulates shadow paging incorrectly ({version}): {what}"
    ))
    .hint(format!("nothing was recorded; {known}"))
}

fn console(tail: &[String]) -> String {
    if tail.is_empty() {
        "; its console is empty".to_owned()
    } else {
        format!("; the end of its console:\n  {}", tail.join("\n  "))
    }
}

fn doing(stage: Stage) -> &'static str {
    match stage {
        Stage::Boot => "starting",
        Stage::Modules => "loading KVM",
        Stage::SelfTest => "testing the emulator",
        Stage::Command => "running",
        Stage::Results => "sending the results",
    }
}
