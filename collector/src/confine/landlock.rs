//! Landlock: files that a thread may change, by the folder that they are in.
//!
//! Numbers are from the kernel's `include/uapi/linux/landlock.h`.

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::Path,
};

/// Ask for the version.
const CREATE_RULESET_VERSION: u32 = 1;
/// A rule for what is below a folder.
const RULE_PATH_BENEATH: u32 = 1;

const WRITE_FILE: u64 = 1 << 1;
/// Rights of version 1 that change a folder: to remove and to make files of every type.
const CHANGE_FOLDER: u64 = 0b1_1111_1111 << 4;
/// Since version 2: to link or rename a file into another folder.
const REFER: u64 = 1 << 13;
/// Since version 3.
const TRUNCATE: u64 = 1 << 14;

/// `struct landlock_ruleset_attr`, as version 1 has it.
#[repr(C)]
struct Ruleset {
    handled_access_fs: u64,
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent: i32,
}

/// Lets the calling thread change files below `folder` only, if the kernel has Landlock.
pub fn only(folder: &Path) -> io::Result<()> {
    let rights = match version() {
        0 => return Ok(()),
        1 => WRITE_FILE | CHANGE_FOLDER,
        2 => WRITE_FILE | CHANGE_FOLDER | REFER,
        _ => WRITE_FILE | CHANGE_FOLDER | REFER | TRUNCATE,
    };
    let attributes = Ruleset {
        handled_access_fs: rights,
    };
    // SAFETY: the attributes outlive the call, and their size is given.
    let ruleset = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size_of::<Ruleset>(),
            0,
        )
    };
    let ruleset = i32::try_from(answer(ruleset)?).map_err(io::Error::other)?;
    // SAFETY: a new descriptor, which nobody else has.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset) };
    let parent = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(folder)?;
    let rule = PathBeneath {
        allowed_access: rights,
        parent: parent.as_raw_fd(),
    };
    // SAFETY: the rule outlives the call.
    answer(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const rule,
            0,
        )
    })?;
    rustix::thread::set_no_new_privs(true)?;
    // SAFETY: plain numbers.
    answer(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) })?;
    Ok(())
}

/// The version of the kernel's Landlock; 0: there is none, or it was not enabled at boot.
pub fn version() -> i64 {
    // SAFETY: a question without attributes.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<Ruleset>(),
            0,
            CREATE_RULESET_VERSION,
        )
    };
    version.max(0)
}

fn answer(result: libc::c_long) -> io::Result<i64> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    #[test]
    fn a_thread_changes_files_in_its_folder_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mine, other) = (folder.path().join("mine"), folder.path().join("other"));
        fs::create_dir(&mine).expect("a folder");
        fs::create_dir(&other).expect("a folder");
        let changed = thread::scope(|scope| {
            let confined = scope.spawn(|| {
                only(&mine).expect("Landlock, or none");
                let write = |path: &Path| fs::write(path.join("file"), "x").is_ok();
                let make = |path: &Path| fs::create_dir(path.join("folder")).is_ok();
                let move_here = || fs::rename(mine.join("file"), mine.join("file.2")).is_ok();
                let move_away = || fs::rename(mine.join("file.2"), other.join("file")).is_ok();
                let here = [write(&mine), make(&mine), move_here()];
                (here, [write(&other), make(&other), move_away()])
            });
            confined.join().expect("no panic")
        });
        let there = [version() == 0; 3];
        assert_eq!(changed, ([true; 3], there), "version {}", version());
    }
}
