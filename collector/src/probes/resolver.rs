//! What the collector must know of the kernel before the probes can be loaded.
//!
//! The program that answers reads any kernel address. It is loaded in a separate instance, which
//! ends before root is dropped.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use events::{Config, Offset};

use super::{
    RequestError, Resolved,
    address::{direct_map, run_page},
    calls::{argument, run},
    object::{self, Room},
};

/// The answering instance.
struct Resolver {
    ebpf: Ebpf,
    answer: Array<MapData, u64>,
}

/// The start of the kernel's direct map, found from a vCPU of this process.
pub fn page_offset(resolved: &Resolved, vcpu: BorrowedFd<'_>) -> Result<u64, RequestError> {
    let config = &resolved.config;
    let mut resolver = Resolver::load(config)?;
    let vcpu_ptr = resolver.ask([argument(vcpu.as_raw_fd())?, 0, 0, 0, 0])?;
    let run = resolver.read(vcpu_ptr, config.offsets.vcpu_run)?;
    let physical = run_page(vcpu).map_err(|error: io::Error| {
        RequestError::DirectMap(format!("the kvm_run page: {error}"))
    })?;
    direct_map(run, physical).ok_or_else(|| {
        RequestError::DirectMap(format!(
            "kvm_run at {run:#x} cannot be the page at {physical:#x}"
        ))
    })
}

/// Whether a vCPU of this process, whose guest has paging on, has a direct root: then the hardware
/// does the translation. (Without paging a shadow root is direct too.)
pub fn is_two_dimensional(resolved: &Resolved, vcpu: BorrowedFd<'_>) -> Result<bool, RequestError> {
    let Some([bit, _]) = resolved.role.get("direct") else {
        return Ok(false);
    };
    let mut resolver = Resolver::load(&resolved.config)?;
    let vcpu_ptr = resolver.ask([argument(vcpu.as_raw_fd())?, 0, 0, 0, 0])?;
    let mmu = resolver.read(vcpu_ptr, resolved.config.offsets.vcpu_mmu)?;
    // Eight bytes are read; the role is the first four.
    let role = resolver.read(mmu, resolved.config.offsets.mmu_root_role)?;
    Ok(role >> bit & 1 != 0)
}

impl Resolver {
    fn load(config: &Config) -> Result<Self, RequestError> {
        let mut ebpf = object::object(config, Room::NONE, false)?;
        object::load(&mut ebpf, &["resolve"], &BTreeSet::new())?;
        let answer = object::take(&mut ebpf, "RESOLVED")?;
        Ok(Self { ebpf, answer })
    }

    /// What `resolve` finds, never 0.
    fn ask(&mut self, args: [u64; 5]) -> Result<u64, RequestError> {
        let map = |source| RequestError::Map {
            name: "RESOLVED",
            source,
        };
        self.answer.set(0, 0, 0).map_err(map)?;
        run(&self.ebpf, "resolve", args)?;
        match self.answer.get(&0, 0).map_err(map)? {
            0 => Err(RequestError::Empty("resolve")),
            found => Ok(found),
        }
    }

    /// Eight bytes of a kernel struct.
    fn read(&mut self, base: u64, offset: Offset) -> Result<u64, RequestError> {
        let address = offset.of(base).ok_or(RequestError::Empty("resolve"))?;
        self.ask([0, address, 0, 0, 0])
    }
}
