//! Pathologies that a workload has, and another one has not, on the host and in the lab alike.

use std::path::Path;

use super::{analyze, analyzer, expect_code, json, run};

/// A pathology; workloads as `collector series` takes them.
pub struct Pair {
    pub pathology: &'static str,
    pub with: &'static str,
    pub without: &'static str,
}

/// Pages lost to one recycling, or to one memslot act.
pub const ZAP_STORMS: &[Pair] = &[
    Pair {
        pathology: "zap_storm",
        with: "recycle",
        without: "linear",
    },
    Pair {
        pathology: "zap_storm",
        with: "memslot",
        without: "flood",
    },
];

/// Guest tables that are synced and stored to in turn.
pub const PING_PONG: Pair = Pair {
    pathology: "ping_pong",
    with: "unsync",
    without: "unsync:rounds=1",
};

/// Many tables to sync at one switch.
pub const UNSYNC_STORM: Pair = Pair {
    pathology: "unsync_storm",
    with: "unsync:tables=32,flush=cr3",
    without: "unsync:tables=4,flush=cr3",
};

/// Memory that the host takes away and the guest uses.
pub const HOST_DISCARD: Pair = Pair {
    pathology: "host_discard",
    with: "reclaim",
    without: "dirty",
};

/// KVM maps neighbours again of what the host took away, and the guest does not use all.
pub const UNUSED_PREFETCH: Pair = Pair {
    pathology: "unused_prefetch",
    with: "reclaim",
    without: "dirty",
};

/// A deleted memslot makes all roots obsolete; a switch alone keeps them.
pub const ROOTS_REBUILT: Pair = Pair {
    pathology: "roots_rebuilt",
    with: "memslot",
    without: "switch",
};

/// Huge pages of the guest over small pages of the host.
pub const NO_HUGE_PAGE: Pair = Pair {
    pathology: "no_huge_page",
    with: "huge",
    without: "linear",
};

/// The same over huge pages of the host, which KVM maps.
pub const HUGE_PAGES: Pair = Pair {
    pathology: "no_huge_page",
    with: "huge",
    without: "huge:backing=huge",
};

/// Each access is refused by the same entry 32 times in a row, or P changes each time.
pub const LIVE_LOCK: Pair = Pair {
    pathology: "live_lock",
    with: "access",
    without: "access:order=present-first",
};

impl Pair {
    /// Compares with what is found in the recording of either workload.
    pub fn check(&self, with: &Path, without: &Path) {
        for (trace, expected) in [(with, true), (without, false)] {
            let found = found(trace);
            let is_found = found.iter().any(|name| name == self.pathology);
            let name = trace.display();
            assert_eq!(
                is_found, expected,
                "{} in {name}: {found:?}",
                self.pathology
            );
        }
    }
}

/// Refaults on what one act of the host took away that make it a discard.
const DISCARD_REFAULTS: u64 = 16;

/// In the lab the host's actor keeps its pace, and an emulated guest may touch too little between
/// two of its acts: there are discards if the refaults of an act show one.
pub fn discards_are_found(reclaimed: &Path, without: &Path) {
    let mut command = analyzer();
    let acts = command.arg("refaults").arg(reclaimed);
    let refaults = json(&run(acts.args(["--top", "10000", "--json"])));
    let acts = refaults["vms"][0]["refaults"]["acts"].as_array();
    let of_host = acts
        .expect("acts")
        .iter()
        .filter(|act| act["cause"] == "host_unmap");
    let most = of_host.map(|act| act["refaults"].as_u64().expect("a number"));
    let most = most.max().expect("an act of the host");
    let has = |trace| found(trace).iter().any(|name| name == "host_discard");
    assert_eq!(has(reclaimed), most >= DISCARD_REFAULTS, "{most}");
    assert!(!has(without), "{}", without.display());
}

/// The pathologies that are found in a recording.
fn found(trace: &Path) -> Vec<String> {
    let findings = analyze("pathologies", trace)["vms"][0]["pathologies"].clone();
    let summary = analyze("summary", trace);
    assert_eq!(summary["lost"]["records"], 0, "{summary}");
    assert_eq!(findings, summary["vms"][0]["pathologies"], "{trace:?}");
    let findings = findings.as_array().expect("findings");
    let names = findings.iter().map(|finding| {
        // What `explain` is given must be there.
        let seq = finding["seq"].as_u64().expect("a number").to_string();
        let mut explain = analyzer();
        expect_code(
            &run(explain.arg("explain").arg(trace).args(["--seq", &seq])),
            0,
        );
        let name = finding["pathology"].as_str().expect("a name");
        let has_time = match name {
            "unused_prefetch" => false,
            "unsync_storm" => !summary["vms"][0]["acts"].is_null(),
            _ => true,
        };
        assert_eq!(finding["cost_ns"].is_number(), has_time, "{finding}");
        name.to_owned()
    });
    names.collect()
}
