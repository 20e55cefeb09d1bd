//! From facts to findings.

use trace::ProbeState;

use super::{
    Finding, Report, Section, State,
    bugs::bugs,
    facts::{Access, Facts, Trial, Types},
};
use crate::{
    host::{self, Paging},
    probes::{EVERY_CHANGE, PLAN, Step},
    program::with_sudo,
};

/// What the facts mean; `program` is the name by which the user calls this program.
pub fn judge(facts: &Facts, program: &str) -> Report {
    let mut findings = vec![kvm(facts, program)];
    if facts.no_sys {
        let sys = finding(Section::Host, "/sys", State::Missing, host::NO_SYS);
        findings.push(sys.remedy(host::MOUNT_SYS));
    } else {
        findings.push(paging(facts, program));
    }
    findings.push(root(facts, program));
    findings.extend(capabilities(facts));
    findings.push(lockdown(facts));
    if !facts.no_sys {
        findings.extend(types(&facts.types));
    }
    let steps: Vec<_> = PLAN.iter().map(|step| probe(step, facts)).collect();
    let columns: Vec<_> = PLAN
        .iter()
        .zip(&steps)
        .filter(|(step, finding)| finding.state == State::Absent && !step.columns.is_empty())
        .map(|(step, _)| {
            let columns = step.columns.join(", ");
            let without = step.without(sees_every_change(facts));
            finding(Section::Columns, columns, State::Absent, without)
        })
        .collect();
    findings.extend(steps);
    findings.extend(columns);
    findings.extend(bugs(&facts.kernel, &facts.version));

    let missing: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.state == State::Missing)
        .map(|finding| finding.what.as_str())
        .collect();
    let untried = findings
        .iter()
        .any(|finding| finding.state == State::Untried);
    let able = missing.is_empty();
    let as_root = |words: &str| with_sudo(&format!("{program} {words}"), facts.root);
    let verdict = if !able {
        format!(
            "This host cannot record the shadow MMU yet: {}",
            missing.join(", ")
        )
    } else if untried {
        let next = as_root("doctor");
        format!("No check failed, but some could not be made without root: {next}")
    } else {
        let next = as_root("run demand");
        format!("This host can record the shadow MMU: {next}")
    };
    Report {
        able,
        verdict,
        findings,
    }
}

pub(super) fn finding(
    section: Section,
    what: impl Into<String>,
    state: State,
    found: impl Into<String>,
) -> Finding {
    Finding {
        section,
        what: what.into(),
        state,
        found: found.into(),
        hook: None,
        tried: Vec::new(),
        remedy: None,
    }
}

impl Finding {
    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }
}

fn kvm(facts: &Facts, program: &str) -> Finding {
    const WHAT: &str = "/dev/kvm";
    match &facts.kvm {
        Access::Open => finding(Section::Host, WHAT, State::Ok, "can be opened"),
        // A container without the device: another run as root finds the same.
        Access::Denied if facts.root => {
            let found = "exists, but even root may not open it here";
            finding(Section::Host, WHAT, State::Missing, found)
                .remedy("run outside the container, or give it the device /dev/kvm")
        }
        Access::Denied => finding(
            Section::Host,
            WHAT,
            State::Untried,
            "exists, but this user may not open it",
        )
        .remedy(with_sudo(&format!("{program} doctor"), false)),
        Access::Missing(why) => finding(Section::Host, WHAT, State::Missing, why).remedy(format!(
            "{}, or {}; in a VM, enable nested virtualization; without KVM: {program} lab demand",
            with_sudo("modprobe kvm_intel ept=0", facts.root),
            with_sudo("modprobe kvm_amd npt=0", facts.root),
        )),
    }
}

fn paging(facts: &Facts, program: &str) -> Finding {
    const WHAT: &str = "shadow paging";
    let module = facts.hypervisor.as_deref().unwrap_or("no vendor module");
    match facts.paging {
        Paging::Shadow => finding(
            Section::Host,
            WHAT,
            State::Ok,
            format!("{module}: every VM uses shadow paging"),
        ),
        Paging::TwoDimensional => {
            let found = format!(
                "{module} uses two-dimensional paging (EPT or NPT): only nested guests have shadow \
                 tables, which `{program} attach` records with NPT"
            );
            let command = host::shadow_paging_command(module, facts.root);
            finding(Section::Host, WHAT, State::Missing, found)
                .remedy(format!("with no VM running: {command}"))
        }
        Paging::None => finding(Section::Host, WHAT, State::Missing, module)
            .remedy("load kvm_intel with ept=0 or kvm_amd with npt=0"),
    }
}

fn root(facts: &Facts, program: &str) -> Finding {
    if facts.root {
        let found = "dropped once the probes are attached";
        finding(Section::Host, "root", State::Ok, found)
    } else {
        let found = "attaching the probes was not tried";
        finding(Section::Host, "root", State::Untried, found)
            .remedy(with_sudo(&format!("{program} doctor"), false))
    }
}

fn capabilities(facts: &Facts) -> Option<Finding> {
    const WHAT: &str = "capabilities";
    if !facts.root {
        return None;
    }
    Some(if facts.lacking.is_empty() {
        finding(
            Section::Host,
            WHAT,
            State::Ok,
            "root has all that are needed",
        )
    } else {
        let found = format!("root lacks {}", facts.lacking.join(", "));
        finding(Section::Host, WHAT, State::Missing, found)
            .remedy("run outside the container, or grant it these capabilities")
    })
}

fn lockdown(facts: &Facts) -> Finding {
    const WHAT: &str = "lockdown";
    match facts.lockdown.as_str() {
        "confidentiality" => finding(
            Section::Host,
            WHAT,
            State::Missing,
            "confidentiality: programs may not read kernel memory",
        )
        .remedy("boot with lockdown=integrity or less"),
        "unknown" => finding(
            Section::Host,
            WHAT,
            State::Ok,
            "unknown (securityfs is not mounted)",
        ),
        mode => finding(Section::Host, WHAT, State::Ok, mode),
    }
}

fn types(types: &Result<Types, String>) -> Vec<Finding> {
    let remedy =
        "a kernel with CONFIG_DEBUG_INFO_BTF and CONFIG_DEBUG_INFO_BTF_MODULES, and KVM loaded";
    let types = match types {
        Ok(types) => types,
        Err(why) => {
            return vec![finding(Section::Types, "BTF", State::Missing, why).remedy(remedy)];
        }
    };
    let fields = match &types.fields {
        Ok([there, all]) => finding(
            Section::Types,
            "fields",
            State::Ok,
            format!("{there} of {all} exist"),
        ),
        Err(why) => finding(Section::Types, "fields", State::Missing, why).remedy(remedy),
    };
    let parts = types.parts.join(", ");
    vec![finding(Section::Types, "BTF", State::Ok, parts), fields]
}

fn probe(step: &Step, facts: &Facts) -> Finding {
    let failed = if step.required {
        State::Missing
    } else {
        State::Absent
    };
    let absent = || {
        let without = step.without(sees_every_change(facts));
        finding(Section::Probes, step.name, failed, without)
    };
    match &facts.trial {
        Trial::Untried => finding(Section::Probes, step.name, State::Untried, step.shows),
        Trial::Failed(why) => absent().remedy(why),
        Trial::Done(states) => match states.iter().find(|state| state.name == step.name) {
            Some(state) if state.attached => Finding {
                hook: Some(state.hook.clone()),
                tried: state.tried.clone(),
                ..finding(Section::Probes, step.name, State::Ok, step.shows)
            },
            Some(state) => Finding {
                tried: state.tried.clone(),
                remedy: remedy(state, facts),
                ..absent()
            },
            None => absent(),
        },
    }
}

/// As far as is known: without a trial nothing is said that this decides.
fn sees_every_change(facts: &Facts) -> bool {
    match &facts.trial {
        Trial::Untried | Trial::Failed(_) => true,
        Trial::Done(states) => states
            .iter()
            .any(|state| state.name == EVERY_CHANGE && state.attached),
    }
}

/// What would make a refused probe work, where something would.
fn remedy(state: &ProbeState, facts: &Facts) -> Option<String> {
    let refused = |what: &str| state.tried.iter().any(|tried| tried.refused.contains(what));
    if refused("CONFIG_KPROBE_EVENTS") {
        Some("a kernel with CONFIG_KPROBE_EVENTS".to_owned())
    } else if refused("Operation not permitted")
        && matches!(facts.lockdown.as_str(), "integrity" | "confidentiality")
    {
        Some(format!(
            "boot without lockdown (its mode is {})",
            facts.lockdown
        ))
    } else if refused("Operation not permitted") && !facts.lacking.is_empty() {
        Some(format!("grant root {}", facts.lacking.join(", ")))
    } else {
        None
    }
}
