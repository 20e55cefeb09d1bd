//! The vendor of the CPU that the lab emulates. It decides which KVM module is loaded, and which
//! emulator runs: QEMU's TCG emulates AMD's SVM, Bochs emulates Intel's VMX.

use clap::ValueEnum;

/// A vendor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Vendor {
    /// SVM, emulated by QEMU
    #[default]
    Amd,
    /// VMX, emulated by Bochs
    Intel,
}

impl Vendor {
    /// The vendor's module of KVM.
    pub fn module(self) -> &'static str {
        match self {
            Vendor::Amd => "kvm_amd",
            Vendor::Intel => "kvm_intel",
        }
    }

    /// The module's parameter for two-dimensional paging.
    pub fn two_dimensional(self) -> &'static str {
        match self {
            Vendor::Amd => "npt",
            Vendor::Intel => "ept",
        }
    }

    /// The file that says whether KVM uses two-dimensional paging.
    pub fn parameter_file(self) -> String {
        let (module, parameter) = (self.module(), self.two_dimensional());
        format!("/sys/module/{module}/parameters/{parameter}")
    }

    /// The module and the parameters that make KVM use shadow paging, or, for a nested guest, shadow
    /// only the tables of the guest hypervisor.
    pub fn parameters(self, nested: bool) -> Vec<(String, String)> {
        let paging = format!("{}={}", self.two_dimensional(), u8::from(nested));
        let mut parameters = vec![(self.module().to_owned(), paging)];
        if nested {
            parameters.push((self.module().to_owned(), "nested=1".to_owned()));
        }
        parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_guest_needs_two_dimensional_paging() {
        let line = |vendor: Vendor, nested| {
            let parameters = vendor.parameters(nested).into_iter();
            let words = parameters.map(|(module, parameter)| format!("{module}.{parameter}"));
            words.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line(Vendor::Amd, false), "kvm_amd.npt=0");
        assert_eq!(
            line(Vendor::Intel, true),
            "kvm_intel.ept=1 kvm_intel.nested=1"
        );
    }
}
