//! Known bugs of the shadow MMU, by the version of the running kernel.
//!
//! Advice only: the ranges are those of the kernel's public records, and distributions fix bugs
//! without a change of this version. `analyzer audit` checks what each bug broke.

use super::{Finding, Section, State, judge::finding};

/// A release of Linux: `6.18.44` or, without the last number, the first of its branch.
type Release = [u32; 3];

/// A bug and where it is fixed.
struct Bug {
    /// CVE, or the commit of the fix where there is none.
    name: &'static str,
    /// Commit of the fix in Linux.
    fix: &'static str,
    /// What went wrong.
    what: &'static str,
    /// The check of `analyzer audit` that shows it.
    check: &'static str,
    /// The versions; none where no public record gives them.
    range: Option<Range>,
}

/// Versions that have a bug.
struct Range {
    /// The first one.
    from: Release,
    /// The first one with the fix, of each stable branch that got it.
    fixed: &'static [Release],
    /// The first branch that had it from the start.
    mainline: [u32; 2],
}

/// Ranges by `CVE-*.json` of the CVE program's list (cvelistV5), as of November 2026. That of
/// CVE-2026-46113 names no 6.1 release: 6.1.177 carries both fixes of shadow paging.
const BUGS: &[Bug] = &[
    Bug {
        name: "CVE-2026-46113",
        fix: "0cb2af2ea66a",
        what: "a direct page keeps leaves of another frame",
        check: "direct_leaf_frame",
        range: Some(Range {
            from: [2, 6, 20],
            fixed: &[
                [6, 1, 177],
                [6, 6, 140],
                [6, 12, 88],
                [6, 18, 30],
                [7, 0, 7],
            ],
            mainline: [7, 1],
        }),
    },
    Bug {
        name: "CVE-2026-53359",
        fix: "81ccda30b4e8",
        what: "a child page is used again with a wrong role",
        check: "child_role",
        range: Some(Range {
            from: [2, 6, 36],
            fixed: &[
                [5, 15, 222],
                [6, 1, 177],
                [6, 6, 144],
                [6, 12, 95],
                [6, 18, 38],
                [7, 1, 3],
            ],
            mainline: [7, 2],
        }),
    },
    Bug {
        name: "CVE-2026-64561",
        fix: "2abd5287f083",
        what: "pages are made below a root that was zapped",
        check: "invalid_root",
        range: Some(Range {
            from: [5, 9, 0],
            fixed: &[[6, 6, 148], [6, 12, 101], [6, 18, 42], [7, 1, 6]],
            mainline: [7, 2],
        }),
    },
    Bug {
        name: "CVE-2026-23401",
        fix: "aad885e77496",
        what: "an MMIO marker replaces a present entry",
        check: "mmio_over_present",
        range: Some(Range {
            from: [5, 13, 0],
            fixed: &[
                [5, 15, 203],
                [6, 1, 168],
                [6, 6, 131],
                [6, 12, 80],
                [6, 18, 21],
                [6, 19, 11],
            ],
            mainline: [7, 0],
        }),
    },
    Bug {
        name: "2e8a2c1b0306",
        fix: "2e8a2c1b0306",
        what: "with SMM, a table of the guest stays writable",
        check: "writable_table",
        range: None,
    },
    Bug {
        name: "58a20a9435aa",
        fix: "58a20a9435aa",
        what: "deleting a memslot zaps pages outside of it",
        check: "zap_outside_slot",
        range: None,
    },
];

/// What the version says of each bug.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// Not in the range, and why.
    Clear(String),
    /// In it; the release of the branch that has the fix.
    InRange(String),
    /// The version, or the record, does not say.
    Unknown(&'static str),
}

/// A finding for each bug; `release` and `version` are `uname -r` and `uname -v`.
pub(super) fn bugs(release: &str, version: &str) -> Vec<Finding> {
    let running = running(release, version);
    let judge = |bug: &Bug| {
        let Bug { what, check, .. } = bug;
        let (state, found) = match verdict(bug, running) {
            Verdict::Clear(why) => (State::Ok, why),
            Verdict::InRange(fixed) => (
                State::Advice,
                format!("{what}: fixed in {fixed}, if not by the distribution ({check})"),
            ),
            Verdict::Unknown(why) => (State::Unknown, format!("{what}: {why} ({check})")),
        };
        finding(Section::Bugs, bug.name, state, found)
    };
    BUGS.iter().map(judge).collect()
}

/// The stable release that runs, as far as the kernel says so. Debian names it in `uname -v`. A
/// third number of zero before a distribution's own number is no release.
fn running(release: &str, version: &str) -> Option<Release> {
    let named = version
        .split_whitespace()
        .skip_while(|word| *word != "Debian");
    if let Some(debian) = named.skip(1).find_map(|word| numbers(word).map(|of| of.0)) {
        return Some(debian);
    }
    let (running, rest) = numbers(release)?;
    let is_abi = rest.strip_prefix('-').is_some_and(|rest| {
        let digit = |letter: char| letter.is_ascii_digit();
        rest.starts_with(digit)
    });
    // A release candidate may be older than any fix in its release.
    let is_candidate = rest.starts_with("-rc");
    (!is_candidate && (running[2] > 0 || !is_abi)).then_some(running)
}

/// The first two or three numbers, and the rest.
fn numbers(text: &str) -> Option<(Release, &str)> {
    let mut numbers = [0; 3];
    let mut rest = text;
    for (index, number) in numbers.iter_mut().enumerate() {
        if index > 0 {
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None if index == 2 => break,
                None => return None,
            }
        }
        let end = rest.find(|letter: char| !letter.is_ascii_digit());
        let (digits, after) = rest.split_at(end.unwrap_or(rest.len()));
        *number = digits.parse().ok()?;
        rest = after;
    }
    Some((numbers, rest))
}

fn verdict(bug: &Bug, running: Option<Release>) -> Verdict {
    let Some(range) = &bug.range else {
        return Verdict::Unknown("no public record gives its versions");
    };
    let Some(running) = running else {
        return Verdict::Unknown("this kernel does not name the stable release that it is");
    };
    let [major, minor, _] = running;
    let (fix, mainline) = (bug.fix, range.mainline);
    if running < range.from {
        return Verdict::Clear("older than the bug".to_owned());
    }
    if [major, minor] >= mainline {
        let [major, minor] = mainline;
        return Verdict::Clear(format!("fixed since {major}.{minor} ({fix})"));
    }
    let of_branch = |fixed: &&Release| fixed[..2] == running[..2];
    match range.fixed.iter().find(of_branch) {
        None => Verdict::Unknown("no public record of a fix in this branch"),
        Some(fixed) => {
            let words = fixed.map(|number| number.to_string()).join(".");
            match running >= *fixed {
                true => Verdict::Clear(format!("fixed since {words} ({fix})")),
                false => Verdict::InRange(words),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stable_release_is_read_where_the_kernel_names_it() {
        for (release, version, expected) in [
            ("6.18.44-fc-v782", "#1 SMP", Some([6, 18, 44])),
            (
                "6.1.0-56-amd64",
                "#1 SMP Debian 6.1.180-1 (2026)",
                Some([6, 1, 180]),
            ),
            ("6.1.0-56-amd64", "#1 SMP", None),
            ("4.18.0-553.el8.x86_64", "", None),
            ("7.2.0-rc6", "", None),
            ("7.2", "", Some([7, 2, 0])),
            ("unknown", "", None),
            ("", "", None),
        ] {
            assert_eq!(running(release, version), expected, "{release} {version}");
        }
    }

    #[test]
    fn a_version_is_in_a_range_or_not_or_nobody_knows() {
        let state = |bug: &str, release: &str| {
            let findings = bugs(release, "");
            let of = findings.iter().find(|of| of.what == bug).expect("a bug");
            of.state
        };
        for (bug, release, expected) in [
            ("CVE-2026-46113", "6.18.29", State::Advice),
            ("CVE-2026-46113", "6.18.30", State::Ok),
            ("CVE-2026-46113", "7.1.0", State::Ok),
            ("CVE-2026-46113", "6.13.4", State::Unknown),
            ("CVE-2026-46113", "2.6.19", State::Ok),
            ("CVE-2026-53359", "7.1.2", State::Advice),
            ("CVE-2026-53359", "7.2.0", State::Ok),
            ("CVE-2026-64561", "6.12.100", State::Advice),
            ("CVE-2026-64561", "6.1.190", State::Unknown),
            ("CVE-2026-23401", "5.10.1", State::Ok),
            ("CVE-2026-53359", "7.2.0-rc6", State::Unknown),
            ("2e8a2c1b0306", "6.18.44", State::Unknown),
        ] {
            assert_eq!(state(bug, release), expected, "{bug} {release}");
        }
    }
}
