//! The words of the page that the lecture may not have.

/// A word, and what it means.
pub const WORDS: [(&str, &str); 24] = [
    (
        "GVA, GPA",
        "guest-virtual and guest-physical address: what the guest's program uses, and what the \
         guest takes for its memory",
    ),
    (
        "HVA, HPA",
        "host-virtual and host-physical address: of the process that runs the guest, and of the \
         real memory",
    ),
    (
        "frame",
        "4 KiB of physical memory; its number is the address without the last three digits",
    ),
    (
        "table, entry, level",
        "a page table has 512 entries; one of level 4 to 2 points to the next table, one of \
         level 1 maps a page. 0x212000[1] is entry 1 of the table at 0x212000; a value is an \
         address and, in its last three digits, bits",
    ),
    (
        "empty, no table",
        "empty: the table exists, its entry holds 0. No table: no entry above points to one",
    ),
    (
        "shadow table",
        "KVM's table from GVA to HPA, the only one that the processor walks",
    ),
    ("KVM", "the hypervisor in the Linux kernel of the host"),
    (
        "KVM-PVM",
        "a KVM whose guests run without the processor's support for guests, so that there is \
         always a shadow table",
    ),
    (
        "VMM",
        "virtual machine monitor: the host's process that runs the guest and lends it its \
         memory, such as QEMU",
    ),
    (
        "memslot",
        "a range of GPAs that the VMM backs with a range of its own HVAs",
    ),
    (
        "page fault",
        "the processor finds no entry that allows an access, and asks the kernel",
    ),
    (
        "exit",
        "the processor stops running the guest, and KVM runs; a page fault of a guest with a \
         shadow table is one",
    ),
    (
        "to pass on",
        "KVM gives a fault to the guest's kernel, as the processor does without KVM (also: to \
         inject)",
    ),
    (
        "write-protected",
        "mapped without w, so that a store faults and KVM sees it: guest tables that have a shadow",
    ),
    (
        "to emulate",
        "KVM carries out an instruction in place of the processor",
    ),
    (
        "unsync",
        "a guest table of level 1 that the guest may write without faults; its shadow may be \
         out of date until the guest flushes its TLB",
    ),
    (
        "TLB",
        "the processor's store of recent translations; after a change of a table the guest has \
         to flush it",
    ),
    (
        "r w x u",
        "bits of an entry: present, writable, executable, for programs (user) too",
    ),
    (
        "A, D",
        "bits: accessed, by anyone; dirty, the page was written",
    ),
    (
        "H, M",
        "bits of KVM's: the host lets the VMM write the frame; KVM may give w back without a new \
         lookup",
    ),
    (
        "NPT, EPT",
        "AMD's and Intel's two-dimensional paging: the processor walks the guest's table and a \
         table from GPA to HPA",
    ),
    (
        "SVM",
        "AMD's support in the processor for guests; NPT is a part of it",
    ),
    (
        "MMU",
        "memory management unit: translates addresses; KVM's is the code that keeps the shadow \
         table",
    ),
    (
        "ms, us, ns",
        "a thousandth, a millionth, a billionth of a second",
    ),
];
