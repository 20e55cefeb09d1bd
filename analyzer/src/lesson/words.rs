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
         address and, as its last three digits, the sum of its bits: 067 is r, w, u, A and D",
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
        "a range of GPAs, backed by one of the VMM's own HVAs",
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
        "KVM carries out an instruction for the processor",
    ),
    (
        "unsync",
        "a guest table of level 1 that the guest may write without faults; its shadow may be \
         old until the guest flushes its TLB",
    ),
    (
        "TLB",
        "the processor's store of recent translations; after a change of a table the guest has \
         to flush it",
    ),
    (
        "r 1, w 2, u 4, x",
        "bits of an entry: present, writable, for programs (user) too; x: executable, unless the \
         top bit is set",
    ),
    (
        "A 0x20, D 0x40",
        "accessed, by anyone; dirty, the page was written",
    ),
    (
        "H 0x200, M 0x400, 0x800",
        "bits of KVM's, in shadow entries only: the host lets the VMM write the frame; KVM may \
         give w back without a new lookup; present, for KVM",
    ),
    (
        "NPT, EPT",
        "AMD's and Intel's two-dimensional paging: the processor walks the guest's table and a \
         table from GPA to HPA",
    ),
    ("SVM", "AMD's support in the processor for guests, with NPT"),
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

#[cfg(test)]
mod tests {
    use events::Spte;

    use super::*;

    type IsSet = fn(Spte) -> bool;

    /// Each value that the words give a bit is that of the program.
    #[test]
    fn a_bit_has_the_value_that_the_words_say() {
        let bits: [(&str, IsSet); 8] = [
            ("r 1", Spte::has_present_bit),
            ("w 2", Spte::is_writable),
            ("u 4", Spte::is_user),
            ("A 0x20", Spte::is_accessed),
            ("D 0x40", Spte::is_dirty),
            ("H 0x200", Spte::is_host_writable),
            ("M 0x400", Spte::is_mmu_writable),
            ("0x800", Spte::is_shadow_present),
        ];
        let said: Vec<_> = WORDS
            .iter()
            .flat_map(|(word, _)| word.split(", "))
            .collect();
        for (bit, is_set) in bits {
            assert!(said.contains(&bit), "{bit}");
            let value = bit.rsplit(' ').next().unwrap();
            let value = match value.strip_prefix("0x") {
                Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
                None => value.parse().unwrap(),
            };
            assert!(is_set(Spte(value)) && !is_set(Spte(!value)), "{bit}");
        }
        assert!(!Spte(1 << 63).is_executable() && Spte(!(1 << 63)).is_executable());
    }
}
