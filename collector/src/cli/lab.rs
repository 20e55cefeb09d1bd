//! `collector lab`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::anyhow;
use clap::{ArgGroup, Args, ValueEnum};

use super::run::{default_output, every, param, plan, seconds};
use crate::{
    failure::Failure,
    keyframe::Every,
    lab::{self, Linux, Options, Output, Vendor, Work},
};

/// A guest other than the workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Guest {
    /// The lab's kernel again, with busybox
    Linux,
}

/// Arguments of `lab`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("linux").args(["guest", "nested"]))]
pub struct LabArgs {
    /// Name of the workload (the command `workloads` lists them)
    #[arg(required_unless_present_any = ["guest", "command"],
          conflicts_with_all = ["guest", "command"])]
    workload: Option<String>,
    /// Run this guest on QEMU instead of a workload, recorded by `attach`
    #[arg(long, value_enum, conflicts_with = "command")]
    guest: Option<Guest>,
    /// Vendor of the lab's CPU; intel takes some minutes
    #[arg(long, value_enum, default_value_t)]
    vendor: Vendor,
    /// Run the workload in a nested guest: KVM uses NPT, a Linux guest is the hypervisor
    #[arg(long, requires = "workload")]
    nested: bool,
    /// Number of CPUs of the Linux guest
    #[arg(long, value_name = "N", default_value_t = 1, requires = "linux",
          value_parser = clap::value_parser!(u16).range(1..=8))]
    guest_cpus: u16,
    /// Memory of the Linux guest in MiB [default: 256, or 768 with --nested]
    #[arg(long, value_name = "MIB", requires = "linux",
          value_parser = clap::value_parser!(u32).range(128..))]
    guest_memory: Option<u32>,
    /// Directory to create for the trace [default: WORKLOAD.trace or GUEST.trace]; with a COMMAND,
    /// for what it leaves in its working directory
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Parameter of the workload, NAME=VALUE; can be given several times
    #[arg(short, long = "param", value_name = "NAME=VALUE", value_parser = param,
          conflicts_with_all = ["guest", "command"])]
    params: Vec<(String, String)>,
    /// Also copy the kernel's shadow tables every SECONDS (always at start and end), or `auto`
    #[arg(long, value_name = "SECONDS", value_parser = every, conflicts_with = "command")]
    keyframe_every: Option<Every>,
    /// Run without probes and without a trace, for comparison
    #[arg(long, conflicts_with_all = ["output", "keyframe_every", "command"])]
    untraced: bool,
    /// Directory of an unpacked kernel package, or a kernel image [default: the newest installed]
    #[arg(long, value_name = "DIR")]
    kernel: Option<PathBuf>,
    /// Directory of the kernel's modules, if it is another one
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Parameter of a module of the lab's kernel, e.g. kvm.mmio_caching=0 (kvm_amd.npt=0 or
    /// kvm_intel.ept=0 is always set)
    #[arg(long = "module-param", value_name = "MODULE.NAME=VALUE", value_parser = module_param)]
    module_params: Vec<(String, String)>,
    /// Number of CPUs of the lab [default: 1, or as many as the guest has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    cpus: Option<u16>,
    /// Memory of the lab in MiB [default: 1536, or 3072 with --nested]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(256..))]
    memory: Option<u32>,
    /// The QEMU to use [default: qemu-system-x86_64 in PATH]
    #[arg(long, value_name = "PROGRAM")]
    qemu: Option<PathBuf>,
    /// The Bochs to use with --vendor intel [default: bochs in PATH]
    #[arg(long, value_name = "PROGRAM")]
    bochs: Option<PathBuf>,
    /// End the lab if it is not done after SECONDS [default: 600, or 3600 with --vendor intel]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Also count KVM's events with tracefs, independently of the probes, into FILE
    #[arg(long, value_name = "FILE", hide = true, requires = "output")]
    observer: Option<PathBuf>,
    /// Then unload MODULE, load it again with this parameter, and run the command again
    #[arg(long, value_name = "MODULE.NAME=VALUE", hide = true, value_parser = module_param)]
    reload: Option<(String, String)>,
    /// Also print the lab's console
    #[arg(short, long)]
    verbose: bool,
    /// Print the outcome as JSON
    #[arg(long, conflicts_with = "command")]
    json: bool,
    /// Arguments of a collector command to run in the lab instead, e.g. `lab -- doctor`
    #[arg(last = true)]
    command: Vec<String>,
}

impl LabArgs {
    /// Boots the lab and runs.
    pub fn execute(self) -> Result<ExitCode, Failure> {
        let (work, output) = match (&self.workload, self.guest) {
            (Some(name), _) if self.nested => self.nested(name)?,
            (Some(name), _) => self.workload(name)?,
            (None, Some(Guest::Linux)) => self.linux("linux", 256, None)?,
            (None, None) => {
                let output = self.output.clone().map(|outside| Output {
                    inside: PathBuf::new(),
                    outside,
                });
                (Work::Command(self.command.clone()), output)
            }
        };
        lab::run(&Options {
            work,
            output,
            observer: self.observer,
            reload: self.reload,
            vendor: self.vendor,
            qemu: self.qemu,
            bochs: self.bochs,
            kernel: self.kernel,
            modules: self.modules,
            parameters: self.module_params,
            cpus: self.cpus.unwrap_or(self.guest_cpus),
            memory_mib: self.memory.unwrap_or(if self.nested { 3072 } else { 1536 }),
            timeout: self.timeout.unwrap_or(match self.vendor {
                Vendor::Amd => Duration::from_mins(10),
                Vendor::Intel => Duration::from_mins(60),
            }),
            verbose: self.verbose,
        })
    }

    /// `collector run`, with the arguments for a host that can record.
    fn workload(&self, name: &str) -> Result<(Work, Option<Output>), Failure> {
        // An error comes now, not from inside the lab after half a minute.
        plan(name, &self.params)?;
        let (mut words, output) = self.recorded(&["run", name], name)?;
        words.extend(self.given());
        Ok((Work::Command(words), output))
    }

    /// `collector run --untraced` in a guest hypervisor, and `collector attach` for that.
    fn nested(&self, name: &str) -> Result<(Work, Option<Output>), Failure> {
        plan(name, &self.params)?;
        let mut run = ["run", name, "--untraced"].map(str::to_owned).to_vec();
        run.extend(self.given());
        self.linux(name, 768, Some(run))
    }

    /// `collector attach`, for a guest that runs in the lab.
    fn linux(
        &self,
        name: &str,
        memory_mib: u32,
        nested: Option<Vec<String>>,
    ) -> Result<(Work, Option<Output>), Failure> {
        let (words, output) = self.recorded(&["attach"], name)?;
        let work = Work::Linux(Linux {
            cpus: self.guest_cpus,
            memory_mib: self.guest_memory.unwrap_or(memory_mib),
            attach: (!self.untraced).then_some(words),
            nested,
        });
        Ok((work, output))
    }

    /// The workload's parameters, as arguments.
    fn given(&self) -> impl Iterator<Item = String> {
        let params = self.params.iter();
        params.flat_map(|(name, value)| ["--param".to_owned(), format!("{name}={value}")])
    }

    /// The command's arguments and its output, with the options that `run` and `attach` share.
    fn recorded(
        &self,
        command: &[&str],
        name: &str,
    ) -> Result<(Vec<String>, Option<Output>), Failure> {
        let mut words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        if self.json {
            words.push("--json".to_owned());
        }
        if self.untraced {
            words.push("--untraced".to_owned());
            return Ok((words, None));
        }
        let path = self.output.clone().unwrap_or_else(|| default_output(name));
        let text = path.to_str().ok_or_else(|| {
            let name = path.display();
            Failure::usage(anyhow!("the output's name is not UTF-8: {name}"))
        })?;
        words.extend(["-o", text].map(str::to_owned));
        if let Some(every) = self.keyframe_every {
            words.extend(["--keyframe-every".to_owned(), every.to_string()]);
        }
        let output = Output {
            inside: path.clone(),
            outside: path,
        };
        Ok((words, Some(output)))
    }
}

/// `kvm_amd.npt=0` is the parameter `npt=0` of `kvm_amd`.
fn module_param(text: &str) -> Result<(String, String), String> {
    let (module, parameter) = text.split_once('.').ok_or("expected MODULE.NAME=VALUE")?;
    param(parameter).map_err(|_| "expected MODULE.NAME=VALUE")?;
    if module.is_empty() || text.contains(char::is_whitespace) {
        return Err("expected MODULE.NAME=VALUE".to_owned());
    }
    Ok((module.replace('-', "_"), parameter.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_parameter_names_its_module() {
        let pair = |module: &str, parameter: &str| Ok((module.to_owned(), parameter.to_owned()));
        assert_eq!(module_param("kvm-amd.npt=1"), pair("kvm_amd", "npt=1"));
        for bad in ["npt=1", "kvm_amd.npt", ".npt=1", "kvm_amd.=1", "a.b=c d"] {
            assert!(module_param(bad).is_err(), "{bad}");
        }
    }
}
