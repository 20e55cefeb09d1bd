//! The page.

use askama::Template as _;

use super::{Exits, Guest, rows::Cell, words::WORDS};
use crate::report::{ReportError, STYLE};

/// A step: what the lecture says of it.
struct Step {
    /// From 0, the access.
    number: usize,
    title: &'static str,
    says: &'static str,
    question: &'static str,
    /// Neither table changes in it: the handout leaves them out.
    is_still: bool,
}

const STEPS: [Step; 6] = [
    Step {
        number: 0,
        title: "The access faults",
        says: "The processor translates with the shadow table only. If that has no entry for the \
               address, the access is a page fault: the processor leaves the guest (an exit), and \
               the hypervisor KVM runs.",
        question: "Who has to act first: the guest's kernel or KVM?",
        is_still: false,
    },
    Step {
        number: 1,
        title: "The guest maps GVA to GPA",
        says: "The guest stores an entry in its own page table. That table is write-protected: \
               the store faults, and the hypervisor sees which GPA the guest chose.",
        question: "Did this store fault here?",
        is_still: false,
    },
    Step {
        number: 2,
        title: "GPA to HVA: the memslot",
        says: "The VMM, the host's process that runs the guest, gave it its memory in slots \
               (memslots): each is a range of the VMM's own addresses. An offset from the start \
               of a slot gives the HVA.",
        question: "What does KVM need to know of the slot?",
        is_still: true,
    },
    Step {
        number: 3,
        title: "HVA to HPA: the host's page tables",
        says: "To the host the guest's memory is memory of a process: its page tables give the \
               frame, and the host allocates one if there is none.",
        question: "Where does most of the fault's time go?",
        is_still: true,
    },
    Step {
        number: 4,
        title: "The shadow entry is written: GVA to HPA",
        says: "The hypervisor writes the entry that the processor uses, and the guest's own entry \
               is updated.",
        question: "Which cells changed, and why?",
        is_still: false,
    },
    Step {
        number: 5,
        title: "Other entries follow",
        says: "Each further page comes with faults of its own, and gets its entries then.",
        question: "How many faults does each further page cost, and why?",
        is_still: false,
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
    words: &'static [(&'static str, &'static str)],
    made_by: &'static str,
}

/// The access and the five steps of each guest, side by side, on a page that needs no network; then
/// the exits of guests with and without shadow tables, and the words.
pub fn html(guests: &[Guest], exits: Option<&Exits>) -> Result<String, ReportError> {
    let page = Page {
        style: STYLE,
        script: include_str!("lesson.js"),
        steps: &STEPS,
        guests,
        exits,
        words: &WORDS,
        made_by: concat!("analyzer ", env!("CARGO_PKG_VERSION")),
    };
    Ok(page.render()?)
}
