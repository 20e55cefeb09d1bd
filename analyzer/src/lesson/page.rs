//! The page.

use askama::Template as _;

use super::{Exits, Guest};
use crate::report::{ReportError, STYLE};

/// A step: what the lecture says of it.
struct Step {
    number: u8,
    title: &'static str,
    says: &'static str,
    question: &'static str,
}

const STEPS: [Step; 5] = [
    Step {
        number: 1,
        title: "The guest maps GVA to GPA",
        says: "The guest stores an entry in its own page table. That table is write-protected: \
               the store faults, and the hypervisor sees which GPA the guest chose.",
        question: "Does every store to a page table fault?",
    },
    Step {
        number: 2,
        title: "GPA to HVA: the memslot",
        says: "The VMM gave the guest its memory in slots, each a range of the VMM's own \
               addresses. An offset from the start of a slot gives the HVA.",
        question: "What does KVM need to know of the slot?",
    },
    Step {
        number: 3,
        title: "HVA to HPA: the host's page tables",
        says: "To the host the guest's memory is memory of a process: its page tables give the \
               frame, and the host allocates one if there is none.",
        question: "Where does most of the fault's time go?",
    },
    Step {
        number: 4,
        title: "The shadow entry is written: GVA to HPA",
        says: "The hypervisor writes the entry that the processor uses, and the guest's own entry \
               is updated.",
        question: "Which tables had to be made, and which entries were written?",
    },
    Step {
        number: 5,
        title: "Other entries follow",
        says: "Each further page comes with a fault of its own.",
        question: "How many faults does the next page cost?",
    },
];

#[derive(askama::Template)]
#[template(path = "lesson.html")]
struct Page<'a> {
    style: &'static str,
    script: &'static str,
    steps: &'static [Step],
    guests: &'a [Guest],
    exits: Option<&'a Exits>,
    made_by: &'static str,
}

/// The five steps of each guest, side by side, on a page that needs no network; then the exits of
/// guests with and without shadow tables.
pub fn html(guests: &[Guest], exits: Option<&Exits>) -> Result<String, ReportError> {
    let page = Page {
        style: STYLE,
        script: include_str!("lesson.js"),
        steps: &STEPS,
        guests,
        exits,
        made_by: concat!("analyzer ", env!("CARGO_PKG_VERSION")),
    };
    Ok(page.render()?)
}
