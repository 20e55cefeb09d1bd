//! All that the probes and the trace get, as a whole.

use std::{collections::BTreeMap, fs, slice};

use events::{FIELDS, Offset, constants};
use tempfile::TempDir;

use super::{KERNELS, Row, fixture, kernel, rows};
use crate::probes::btf::{BtfError, KernelTypes, Resolved};

/// The kernel's column of a table.
fn column(table: &str, kernel: &str) -> BTreeMap<String, Option<String>> {
    let column = KERNELS.iter().position(|&name| name == kernel);
    let column = column.expect("a kernel of the table");
    rows(table)
        .into_iter()
        .map(|Row { name, values }| (name, values[column].clone()))
        .collect()
}

#[test]
fn every_field_is_where_the_table_has_it_or_absent_as_there() {
    for name in KERNELS {
        let known = column("offsets", name);
        let Resolved {
            config, offsets, ..
        } = kernel(name).resolve().expect("all that is needed");
        let numbers: &[Offset] = bytemuck::cast_slice(slice::from_ref(&config.offsets));
        for (&number, field) in numbers.iter().zip(FIELDS) {
            let field = format!("{}.{}", field.of, field.path);
            let known = known
                .get(&field)
                .unwrap_or_else(|| panic!("{field} is not in the table"));
            let known = known.as_ref().map(|known| known.parse().expect("a number"));
            assert_eq!(offsets[&field], known, "{name}: {field}");
            assert_eq!(number.bytes(), known, "{name}: {field}");
        }
    }
}

#[test]
fn role_is_that_of_the_tables() {
    for name in KERNELS {
        let resolved = kernel(name).resolve().expect("all that is needed");
        let known = column("bitfields", name);
        for (field, [bit, width]) in &resolved.role {
            let known = &known[&format!("kvm_mmu_page_role.{field}")];
            assert_eq!(known.as_deref(), Some(&*format!("{bit}:{width}")), "{name}");
        }
        assert_eq!(resolved.role.len(), 9, "{name}");
        let [level, width] = resolved.role["level"].map(u32::from);
        let config = resolved.config;
        assert_eq!(
            (config.role_level_shift, config.role_level_width),
            (level, width)
        );
    }
}

#[test]
fn rip_is_with_the_registers_up_to_6_18() {
    let keeps_rip = KERNELS.map(|name| {
        let resolved = kernel(name).resolve().expect("all that is needed");
        resolved.config.keeps_rip
    });
    assert_eq!(keeps_rip, [1, 1, 1, 0, 0]);
}

/// What `events::constants` says of the kernel, as far as BTF can contradict it.
#[test]
fn constants_are_those_of_the_kernels() {
    for name in KERNELS {
        let types = kernel(name);
        let config = types.resolve().expect("all that is needed").config;
        if config.keeps_rip != 0 {
            let registers = types.elements("kvm_vcpu", "arch.regs");
            assert_eq!(registers, Some(constants::VCPU_REGS_RIP + 1), "{name}");
        }
        let buckets = types.elements("kvm_memslots", "id_hash").map(u64::from);
        assert_eq!(buckets, Some(constants::MEMSLOT_BUCKETS), "{name}");
        // Two nodes, and nothing else before the next field.
        let offset = |path| types.offset("kvm_memory_slot", path).map(u64::from);
        let nodes = offset("hva_node").zip(offset("id_node"));
        let bytes = nodes.map(|(after, first)| after - first);
        assert_eq!(bytes, Some(2 * constants::HLIST_NODE_BYTES), "{name}");
    }
}

#[test]
fn a_list_of_a_reverse_map_has_14_entries_in_each_part() {
    let entries = KERNELS.map(|name| kernel(name).resolve().expect("all").config.desc_entries);
    assert_eq!(entries, [14; 5]);
}

/// 7.3's kvm has `kvm_vcpu` three times, and vmlinux once more.
#[test]
fn a_name_may_be_there_more_than_once() {
    let types = kernel("7.3");
    assert_eq!(types.types("kvm_vcpu").count(), 4);
    assert_eq!(types.offset("kvm_vcpu", "arch.mmu"), Some(672));
}

/// A folder with some files of a kernel.
fn some(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (kernel, file) in files {
        fs::copy(fixture(kernel).join(file), folder.path().join(file)).expect("a copy");
    }
    folder
}

#[test]
fn without_the_module_the_error_says_to_load_it() {
    let folder = some(&[("6.12", "vmlinux")]);
    let types = KernelTypes::from_folder(folder.path()).expect("vmlinux");
    let error = types.resolve().expect_err("no shadow pages");
    assert!(matches!(error, BtfError::NoKvm("kvm_mmu_page")));
    assert!(error.to_string().contains("`modprobe kvm_amd npt=0`"));
    assert!(types.tracepoint("kvm_mmu_set_spte").is_none());
}

#[test]
fn what_the_vendor_module_adds_is_absent_without_it_and_nothing_else() {
    let folder = some(&[("6.12", "vmlinux"), ("6.12", "kvm")]);
    let types = KernelTypes::from_folder(folder.path()).expect("vmlinux and kvm");
    assert_eq!(types.offset("vcpu_svm", "vmcb"), None);
    assert_eq!(types.resolve().ok(), kernel("6.12").resolve().ok());
}

#[test]
fn a_module_of_another_build_is_refused() {
    let folder = some(&[("6.1", "vmlinux"), ("7.2", "kvm")]);
    let error = KernelTypes::from_folder(folder.path()).expect_err("no such names");
    assert!(error.to_string().contains("of the same build"), "{error}");
}

#[test]
fn without_btf_the_error_says_what_the_kernel_lacks() {
    let folder = some(&[]);
    let error = KernelTypes::from_folder(folder.path()).expect_err("nothing there");
    assert!(
        error.to_string().contains("CONFIG_DEBUG_INFO_BTF"),
        "{error}"
    );
}

#[test]
#[ignore = "needs a kernel with BTF that includes KVM's types"]
fn kvm_the_running_kernel_has_every_field() {
    let types = KernelTypes::running().expect("BTF");
    let resolved = types.resolve().expect("all fields");
    assert_eq!(resolved.role["level"], [0, 4]);
    // Those of which no extract has anything.
    for Row { name, values } in rows("offsets") {
        if values.iter().all(Option::is_none) {
            assert!(resolved.offsets[&name].is_some(), "{name}");
        }
    }
    assert!(types.tracepoint("kvm_mmu_set_spte").is_some());
    assert!(types.tracepoint("kvm_mmu_set_spte_").is_none());
}
