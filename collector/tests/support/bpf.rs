//! BPF programs that are loaded.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

/// Longest time that the kernel may take to free programs whose process has ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// Ids of the programs that a process holds.
pub fn programs_of(pid: u32) -> BTreeSet<u32> {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo"));
    let texts = files
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|file| fs::read_to_string(file.path()).ok());
    texts
        .filter_map(|text| {
            let id = text.lines().find_map(|line| line.strip_prefix("prog_id:"));
            id?.trim().parse().ok()
        })
        .collect()
}

/// Waits until none of these programs is loaded; those that stay.
pub fn until_gone(programs: &BTreeSet<u32>) -> BTreeSet<u32> {
    let begin = Instant::now();
    loop {
        let left: BTreeSet<_> = loaded().intersection(programs).copied().collect();
        if left.is_empty() || begin.elapsed() > PATIENCE {
            return left;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ids of all programs of this machine.
fn loaded() -> BTreeSet<u32> {
    const BPF_PROG_GET_NEXT_ID: u64 = 11;
    let mut ids = BTreeSet::new();
    // Where to start; the id found; flags.
    let mut attributes = [0_u32; 3];
    loop {
        // SAFETY: the attributes outlive the call, and their size is given.
        let found = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_GET_NEXT_ID,
                attributes.as_mut_ptr(),
                size_of_val(&attributes),
            )
        };
        if found != 0 {
            return ids;
        }
        ids.insert(attributes[1]);
        attributes[0] = attributes[1];
    }
}
