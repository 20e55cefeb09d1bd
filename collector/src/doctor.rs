//! Can this host do it; what will be seen, what not, and why.

use std::{fs, io, path::Path};

use serde::Serialize;

use crate::{
    host::{self, Paging},
    privileges,
    probes::{KernelTypes, PLAN, Probes},
};

/// Size of the ring for the trial: one page.
const TRIAL_RING: u32 = 4096;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it must be.
    Ok,
    /// Less will be seen.
    Absent,
    /// It was not tried.
    Untried,
    /// Nothing can be recorded.
    Missing,
}

impl State {
    /// For the table.
    pub fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Absent => "absent",
            State::Untried => "untried",
            State::Missing => "MISSING",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Heading under which it stands.
    pub section: &'static str,
    /// What was looked at.
    pub what: String,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What would mend it.
    pub remedy: Option<String>,
}

/// All checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `collector run` will work here (as root).
    pub able: bool,
    /// In one line.
    pub verdict: String,
    /// In the order in which `run` needs them.
    pub findings: Vec<Finding>,
}

/// Looks at everything, changes nothing.
pub fn examine() -> Report {
    let mut findings = vec![kvm(), paging(), root(), lockdown()];
    let types = KernelTypes::running();
    findings.extend(btf(&types));
    if let Ok(types) = &types {
        findings.extend(steps(types));
    }
    let missing: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.state == State::Missing)
        .map(|finding| finding.what.as_str())
        .collect();
    let able = missing.is_empty();
    let untried = findings
        .iter()
        .any(|finding| finding.state == State::Untried);
    let verdict = if !able {
        format!(
            "This host cannot record the shadow MMU as it is: {}",
            missing.join(", ")
        )
    } else if untried {
        "Nothing stands in the way so far, but not all was tried: sudo collector doctor".to_owned()
    } else {
        "This host can record the shadow MMU: sudo collector run demand".to_owned()
    };
    Report {
        able,
        verdict,
        findings,
    }
}

const HOST: &str = "Host";

fn finding(
    section: &'static str,
    what: &str,
    state: State,
    found: impl Into<String>,
    remedy: Option<&str>,
) -> Finding {
    Finding {
        section,
        what: what.to_owned(),
        state,
        found: found.into(),
        remedy: remedy.map(str::to_owned),
    }
}

fn kvm() -> Finding {
    match fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
    {
        Ok(_) => finding(HOST, "/dev/kvm", State::Ok, "can be opened", None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => finding(
            HOST,
            "/dev/kvm",
            State::Untried,
            "is there, but not for this user",
            Some("run with sudo"),
        ),
        Err(error) => finding(
            HOST,
            "/dev/kvm",
            State::Missing,
            error.to_string(),
            Some(
                "sudo modprobe kvm_intel ept=0, or sudo modprobe kvm_amd npt=0; in a VM, enable nested virtualization",
            ),
        ),
    }
}

fn paging() -> Finding {
    let module = host::vendor_module().unwrap_or("no vendor module");
    match host::paging() {
        Paging::Shadow => finding(
            HOST,
            "shadow paging",
            State::Ok,
            format!("{module}: every VM is shadowed"),
            None,
        ),
        Paging::TwoDimensional => finding(
            HOST,
            "shadow paging",
            State::Missing,
            format!("{module} uses two-dimensional paging (EPT or NPT)"),
            host::shadow_paging_command(),
        ),
        Paging::None => finding(
            HOST,
            "shadow paging",
            State::Missing,
            module,
            Some("load kvm_intel or kvm_amd"),
        ),
    }
}

fn root() -> Finding {
    if privileges::is_root() {
        finding(
            HOST,
            "root",
            State::Ok,
            "given up once the probes are attached",
            None,
        )
    } else {
        finding(
            HOST,
            "root",
            State::Untried,
            "the probes were not tried on the kernel",
            Some("sudo collector doctor"),
        )
    }
}

fn lockdown() -> Finding {
    match host::lockdown().as_str() {
        "confidentiality" => finding(
            HOST,
            "lockdown",
            State::Missing,
            "confidentiality: programs may not read kernel memory",
            Some("boot with lockdown=integrity or less"),
        ),
        mode => finding(HOST, "lockdown", State::Ok, mode, None),
    }
}

const TYPES: &str = "Kernel types";

fn btf(types: &Result<KernelTypes, crate::probes::BtfError>) -> Vec<Finding> {
    let remedy =
        "a kernel with CONFIG_DEBUG_INFO_BTF and CONFIG_DEBUG_INFO_BTF_MODULES, and KVM loaded";
    let types = match types {
        Ok(types) => types,
        Err(error) => {
            return vec![finding(
                TYPES,
                "BTF",
                State::Missing,
                error.to_string(),
                Some(remedy),
            )];
        }
    };
    let module = if Path::new("/sys/kernel/btf/kvm").exists() {
        "vmlinux and kvm"
    } else {
        "vmlinux"
    };
    let fields = match types.resolve() {
        Ok(resolved) => {
            let found = resolved
                .offsets
                .values()
                .filter(|offset| offset.is_some())
                .count();
            finding(
                TYPES,
                "fields",
                State::Ok,
                format!("{found} of {} resolved", resolved.offsets.len()),
                None,
            )
        }
        Err(error) => finding(
            TYPES,
            "fields",
            State::Missing,
            error.to_string(),
            Some(remedy),
        ),
    };
    vec![finding(TYPES, "BTF", State::Ok, module, None), fields]
}

/// Each step; as root the probes are attached for a moment, to no VM.
fn steps(types: &KernelTypes) -> Vec<Finding> {
    const PROBES: &str = "Steps of a fault, and changes";
    const COLUMNS: &str = "Columns of faults that will be absent";
    let trial = privileges::is_root().then(|| -> Result<Probes, String> {
        let config = types.resolve().map_err(|error| error.to_string())?.config;
        let (mut probes, _ring) =
            Probes::load(&config, TRIAL_RING, false).map_err(|error| error.to_string())?;
        // A required probe that is refused stands among the states.
        let _ = probes.attach(host::platform());
        Ok(probes)
    });
    let mut findings = Vec::new();
    let mut columns = Vec::new();
    for step in PLAN {
        let bad = if step.required {
            State::Missing
        } else {
            State::Absent
        };
        let (state, found) = match &trial {
            None => (State::Untried, step.shows.to_owned()),
            Some(Err(why)) => (bad, format!("{why}; {}", step.without)),
            Some(Ok(probes)) => {
                match probes.states().iter().find(|state| state.name == step.name) {
                    Some(state) if state.attached => {
                        (State::Ok, format!("{} ({})", state.note, state.hook))
                    }
                    Some(state) => (bad, state.note.clone()),
                    None => (bad, step.without.to_owned()),
                }
            }
        };
        if matches!(state, State::Missing | State::Absent) && !step.columns.is_empty() {
            columns.push(finding(
                COLUMNS,
                &step.columns.join(", "),
                State::Absent,
                step.without,
                None,
            ));
        }
        findings.push(finding(PROBES, step.name, state, found, None));
    }
    findings.extend(columns);
    findings
}
