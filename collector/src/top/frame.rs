//! One look at the VMs, as text.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use super::sums::{Faults, OfVm};

/// A VM at a look.
#[derive(Clone, Debug)]
pub struct VmNow {
    /// Its number; none if it could not be followed.
    pub vm: Option<u16>,
    /// Its process.
    pub pid: u32,
    /// That process's name.
    pub name: String,
    /// vCPUs that were seen.
    pub vcpus: usize,
    /// Shadow pages in use.
    pub shadow_pages: u64,
    /// Faults that KVM itself counted (`pf_taken`).
    pub taken: u64,
    /// What its records say.
    pub did: OfVm,
    /// Why it cannot be followed or read.
    pub failed: Option<String>,
}

impl VmNow {
    /// Nothing is known but what it is.
    pub fn of(vm: Option<u16>, pid: u32, name: &str) -> Self {
        Self {
            vm,
            pid,
            name: name.to_owned(),
            vcpus: 0,
            shadow_pages: 0,
            taken: 0,
            did: OfVm::default(),
            failed: None,
        }
    }

    /// Its number, for people.
    fn number(&self) -> String {
        self.vm.map_or_else(|| "-".to_owned(), |vm| vm.to_string())
    }
}

/// A look.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Since the start.
    pub at: Duration,
    /// Since the look before: what the numbers are over.
    pub over: Duration,
    /// Records lost since the start.
    pub lost: u64,
    /// The VMs.
    pub vms: Vec<VmNow>,
}

/// Columns of a screen that no line is longer than.
const WIDTH: usize = 80;

impl Frame {
    fn seconds(&self) -> f64 {
        self.over.as_secs_f64().max(1e-3)
    }

    /// A number a second.
    fn rate(&self, number: u64) -> f64 {
        number as f64 / self.seconds()
    }

    /// Time in faults, percent of one CPU.
    fn percent(&self, ns: u64) -> f64 {
        ns as f64 / 1e7 / self.seconds()
    }

    /// The VM with the most time in faults first.
    fn sorted(&self) -> Vec<(&VmNow, Faults)> {
        let mut vms: Vec<_> = self.vms.iter().map(|vm| (vm, all(&vm.did))).collect();
        vms.sort_by_key(|(vm, all)| (std::cmp::Reverse(all.total_ns), vm.vm));
        vms
    }

    /// Lines for a terminal of this size; the last one says what is not shown.
    pub fn lines(&self, columns: usize, rows: usize) -> Vec<String> {
        let mut lines = vec![
            format!(
                "{} VM{}, the last {:.1} s; {} records lost; q quits",
                self.vms.len(),
                if self.vms.len() == 1 { "" } else { "s" },
                self.over.as_secs_f64(),
                self.lost
            ),
            format!(
                "{:<24} {:>10} {:>9} {:>9} {:>7} {:>9}",
                "VM, class", "faults/s", "mean", "longest", "CPU %", "pages"
            ),
        ];
        for (vm, all) in self.sorted() {
            let name: String = vm.name.chars().filter(|of| !of.is_control()).collect();
            let title = format!("{} {} {name}", vm.number(), vm.pid);
            let title: String = title.chars().take(24).collect();
            lines.push(match &vm.failed {
                Some(why) => format!("{title:<24} failed: {why}"),
                None => self.line(&title, all, &vm.shadow_pages.to_string()),
            });
            for (class, faults) in by_time(&vm.did) {
                lines.push(self.line(&format!("  {class}"), faults, ""));
            }
            let OfVm {
                changes,
                born,
                zapped,
                ..
            } = vm.did;
            if changes + born + zapped > 0 {
                lines.push(format!(
                    "  {:.0} other changes/s, {:.0} pages made/s, {:.0} zapped/s",
                    self.rate(changes),
                    self.rate(born),
                    self.rate(zapped)
                ));
            }
        }
        if self.vms.is_empty() {
            lines.push("no VM runs now".to_owned());
        }
        let shown = rows.max(1);
        if lines.len() > shown {
            let more = lines.len() - shown + 1;
            lines.truncate(shown - 1);
            lines.push(format!("... {more} more lines"));
        }
        let columns = columns.min(WIDTH);
        for line in &mut lines {
            *line = line.chars().take(columns).collect();
        }
        lines
    }

    fn line(&self, title: &str, faults: Faults, pages: &str) -> String {
        let mean = faults.total_ns.checked_div(faults.count);
        let line = format!(
            "{title:<24} {:>10.0} {:>9} {:>9} {:>7.2} {pages:>9}",
            self.rate(faults.count),
            mean.map_or_else(String::new, time),
            mean.map_or_else(String::new, |_| time(faults.max_ns)),
            self.percent(faults.total_ns),
        );
        line.trim_end().to_owned()
    }

    /// One line for each VM, for a log.
    pub fn log(&self) -> String {
        let mut text = String::new();
        for (vm, all) in self.sorted() {
            let (at, number) = (self.at.as_secs_f64(), vm.number());
            // Writing to a string does not fail.
            let _ = write!(text, "{at:.1} s VM {number} (process {}): ", vm.pid);
            let _ = match &vm.failed {
                Some(why) => write!(text, "failed: {why}"),
                None => write!(
                    text,
                    "{:.0} faults/s, {:.2} % of a CPU, {} shadow pages",
                    self.rate(all.count),
                    self.percent(all.total_ns),
                    vm.shadow_pages
                ),
            };
            for (class, faults) in by_time(&vm.did) {
                let mean = faults
                    .total_ns
                    .checked_div(faults.count)
                    .unwrap_or_default();
                let _ = write!(
                    text,
                    "; {class} {:.0}/s {}",
                    self.rate(faults.count),
                    time(mean)
                );
            }
            text.push('\n');
        }
        if self.vms.is_empty() {
            let _ = writeln!(text, "{:.1} s no VM runs now", self.at.as_secs_f64());
        }
        if self.lost > 0 {
            let _ = writeln!(
                text,
                "{:.1} s {} records lost",
                self.at.as_secs_f64(),
                self.lost
            );
        }
        text
    }

    /// All numbers, in base units.
    pub fn json(&self) -> Value {
        let vms = self.sorted().into_iter().map(|(vm, _)| {
            let classes = by_time(&vm.did).into_iter();
            let classes = classes.map(|(class, faults)| {
                json!({
                    "class": class,
                    "count": faults.count,
                    "total_ns": faults.total_ns,
                    "max_ns": faults.max_ns,
                })
            });
            json!({
                "vm": vm.vm,
                "pid": vm.pid,
                "name": vm.name,
                "vcpus": vm.vcpus,
                "shadow_pages": vm.shadow_pages,
                "taken": vm.taken,
                "changes": vm.did.changes,
                "pages_born": vm.did.born,
                "pages_zapped": vm.did.zapped,
                "failed": vm.failed,
                "classes": classes.collect::<Vec<_>>(),
            })
        });
        json!({
            "at_s": self.at.as_secs_f64(),
            "over_s": self.over.as_secs_f64(),
            "lost": self.lost,
            "vms": vms.collect::<Vec<_>>(),
        })
    }
}

fn all(did: &OfVm) -> Faults {
    did.classes
        .values()
        .fold(Faults::default(), |sum, of| Faults {
            count: sum.count + of.count,
            total_ns: sum.total_ns.saturating_add(of.total_ns),
            max_ns: sum.max_ns.max(of.max_ns),
        })
}

/// Classes by their name, the costliest first.
fn by_time(did: &OfVm) -> Vec<(&'static str, Faults)> {
    let classes = did.classes.iter();
    let mut classes: Vec<_> = classes.map(|(class, of)| (class.name(), *of)).collect();
    classes.sort_by_key(|(name, of)| (std::cmp::Reverse(of.total_ns), *name));
    classes
}

fn time(ns: u64) -> String {
    let ns_of = ns as f64;
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns_of / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns_of / 1e6),
        _ => format!("{:.1} s", ns_of / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use events::Class;

    use super::*;

    fn frame() -> Frame {
        let faults = |count, total_ns, max_ns| Faults {
            count,
            total_ns,
            max_ns,
        };
        let vm = |vm, name: &str, classes: Vec<(Class, Faults)>| VmNow {
            vcpus: 2,
            shadow_pages: 1024,
            taken: 5,
            did: OfVm {
                classes: classes.into_iter().collect(),
                changes: 20,
                born: 4,
                zapped: 2,
            },
            ..VmNow::of(Some(vm), 4711, name)
        };
        Frame {
            at: Duration::from_secs(12),
            over: Duration::from_secs(2),
            lost: 0,
            vms: vec![
                vm(0, "quiet", Vec::new()),
                vm(
                    1,
                    "small\x1b[31m_vmm_with_a_very_long_name",
                    vec![
                        (Class::Guest, faults(10, 20_000, 4_000)),
                        (Class::Shadow, faults(20_000, 180_000_000, 2_500_000)),
                    ],
                ),
            ],
        }
    }

    #[test]
    fn the_screen_shows_the_costliest_first() {
        assert_eq!(
            frame().lines(80, 24),
            [
                "2 VMs, the last 2.0 s; 0 records lost; q quits",
                "VM, class                  faults/s      mean   longest   CPU %     pages",
                "1 4711 small[31m_vmm_wit      10005    9.0 us    2.5 ms    9.00      1024",
                "  shadow                      10000    9.0 us    2.5 ms    9.00",
                "  guest                           5    2.0 us    4.0 us    0.00",
                "  10 other changes/s, 2 pages made/s, 1 zapped/s",
                "0 4711 quiet                      0                        0.00      1024",
                "  10 other changes/s, 2 pages made/s, 1 zapped/s",
            ]
        );
    }

    #[test]
    fn a_vm_that_failed_says_so_on_its_line() {
        let mut frame = frame();
        frame.vms[0].failed = Some("`counters` gave no answer".to_owned());
        frame.vms[0].did = OfVm::default();
        let refused = VmNow::of(None, 12, "late");
        frame.vms.push(VmNow {
            failed: Some("no room".to_owned()),
            ..refused
        });
        let lines = frame.lines(80, 24);
        assert_eq!(
            lines[lines.len() - 2..],
            [
                "- 12 late                failed: no room",
                "0 4711 quiet             failed: `counters` gave no answer",
            ]
        );
        let log = frame.log();
        assert!(
            log.contains("s VM 0 (process 4711): failed: `counters` gave no answer\n"),
            "{log}"
        );
        let failed = &frame.json()["vms"][1];
        assert_eq!(
            (&failed["vm"], &failed["failed"]),
            (&Value::Null, &"no room".into())
        );
    }

    #[test]
    fn a_small_screen_says_that_there_is_more() {
        assert_eq!(
            frame().lines(40, 4),
            [
                "2 VMs, the last 2.0 s; 0 records lost; q",
                "VM, class                  faults/s     ",
                "1 4711 small[31m_vmm_wit      10005    9",
                "... 5 more lines",
            ]
        );
        assert_eq!(frame().lines(1, 1), ["."]);
        assert_eq!(frame().lines(0, 0), [""]);
    }

    #[test]
    fn a_log_has_a_line_for_each_vm() {
        let log = frame().log();
        let expected = "12.0 s VM 1 (process 4711): 10005 faults/s, 9.00 % of a CPU, 1024 shadow \
                        pages; shadow 10000/s 9.0 us; guest 5/s 2.0 us\n\
                        12.0 s VM 0 (process 4711): 0 faults/s, 0.00 % of a CPU, 1024 shadow \
                        pages\n";
        assert_eq!(log, expected);
    }
}
