//! A guest with as many shadow pages as KVM lets a VM of 40 GiB have.

use trace::{Record, Trace};

use super::attach::{exact, of_process};
use crate::support::{
    analyze, folder,
    vmm::{Attached, Vmm},
};

/// Pages that the guest touches, each by a leaf table of its own.
const PAGES: u32 = 200_000;

#[test]
#[ignore = "needs root, 4 GiB of memory and a shadow MMU (/dev/kvm)"]
fn kvm_200_000_shadow_pages_have_room_and_are_exact() {
    let folder = folder();
    let trace = folder.path().join("p.trace");
    let pages = PAGES.to_string();
    let mut vmm = Vmm::small(&["--apart", "--pages", &pages, "--chunk", "10000"]);
    let mut attached = Attached::start(&trace, &["--pid", &vmm.pid().to_string()]);
    attached.until_traced(&[vmm.pid()]);
    vmm.go();
    vmm.expect("touched");
    let outcome = attached.stop();
    vmm.kill();
    assert_eq!(outcome["lost"], 0, "{outcome}");

    let vm = &of_process(&outcome, vmm.pid())[0]["vm"];
    exact(&analyze("verify", &trace), vm);
    // KVM held all of them at the end.
    let mut last = 0;
    for record in Trace::open(&trace).expect("a trace").records() {
        if let Record::Mark(mark) = record.expect("a whole trace") {
            last = mark.pages.unwrap_or(last);
        }
    }
    assert!(last > PAGES, "{last} shadow pages");
}
