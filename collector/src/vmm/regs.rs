//! A vCPU's registers, for error messages.

use std::fmt;

use kvm_bindings::{kvm_regs, kvm_sregs};

/// The registers of a vCPU. Printed on several lines, all numbers in hexadecimal.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Regs {
    /// General registers, RIP and RFLAGS.
    pub general: kvm_regs,
    /// Segments, control registers and EFER.
    pub special: kvm_sregs,
}

impl fmt::Display for Regs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (g, s) = (&self.general, &self.special);
        writeln!(
            f,
            "  rip {:016x}  rsp {:016x}  rflags {:08x}  cpl {}",
            g.rip,
            g.rsp,
            g.rflags,
            s.cs.selector & 3
        )?;
        writeln!(
            f,
            "  cr0 {:08x}  cr2 {:016x}  cr3 {:016x}  cr4 {:08x}  efer {:04x}",
            s.cr0, s.cr2, s.cr3, s.cr4, s.efer
        )?;
        writeln!(
            f,
            "  rax {:016x}  rbx {:016x}  rcx {:016x}  rdx {:016x}",
            g.rax, g.rbx, g.rcx, g.rdx
        )?;
        writeln!(
            f,
            "  rsi {:016x}  rdi {:016x}  rbp {:016x}  r8  {:016x}",
            g.rsi, g.rdi, g.rbp, g.r8
        )?;
        writeln!(
            f,
            "  r9  {:016x}  r10 {:016x}  r11 {:016x}  r12 {:016x}",
            g.r9, g.r10, g.r11, g.r12
        )?;
        write!(
            f,
            "  r13 {:016x}  r14 {:016x}  r15 {:016x}",
            g.r13, g.r14, g.r15
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_printed_in_six_lines() {
        let mut regs = Regs::default();
        regs.general.rip = 0x10_0123;
        regs.general.r15 = 15;
        regs.special.cr2 = 0x80_0000_0000;
        regs.special.cs.selector = 0x33;
        let text = regs.to_string();
        assert_eq!(text.lines().count(), 6);
        assert!(text.starts_with("  rip 0000000000100123  rsp 0000000000000000"));
        assert!(text.contains("cpl 3\n"));
        assert!(text.contains("cr2 0000008000000000"));
        assert!(text.ends_with("r15 000000000000000f"));
    }
}
