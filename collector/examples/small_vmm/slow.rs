//! Memory that the host brings in late, as it does from swap, from another machine or from a
//! snapshot: a page that userfaultfd(2) fills after a while.

use std::{io, os::fd::AsRawFd as _, os::fd::OwnedFd, thread, time::Duration};

use anyhow::Context as _;
use rustix::mm::{UserfaultfdFlags, userfaultfd};

/// `UFFDIO_API`, `UFFDIO_REGISTER`, `UFFDIO_COPY` (include/uapi/linux/userfaultfd.h).
const API: libc::c_ulong = 0xc018_aa3f;
const REGISTER: libc::c_ulong = 0xc020_aa00;
const COPY: libc::c_ulong = 0xc028_aa03;
/// `UFFD_API`.
const VERSION: u64 = 0xaa;
/// `UFFDIO_REGISTER_MODE_MISSING`.
const MISSING: u64 = 1;
/// `sizeof(struct uffd_msg)`.
const MESSAGE: usize = 32;
const PAGE: u64 = 4096;

/// From now on, `page` comes in so long after it is first touched.
pub fn slow(page: usize, after: Duration) -> anyhow::Result<()> {
    // SAFETY: no page of this process's memory is registered by it yet.
    let faults = unsafe { userfaultfd(UserfaultfdFlags::CLOEXEC) }.context("userfaultfd")?;
    ask(&faults, API, &mut [VERSION, 0, 0]).context("UFFDIO_API")?;
    let place = page as u64;
    ask(&faults, REGISTER, &mut [place, PAGE, MISSING, 0]).context("UFFDIO_REGISTER")?;
    thread::spawn(move || {
        let served = serve(&faults, place, after);
        if let Err(error) = served {
            eprintln!("error: {error:#}");
        }
    });
    Ok(())
}

fn serve(faults: &OwnedFd, place: u64, after: Duration) -> anyhow::Result<()> {
    let mut message = [0; MESSAGE];
    rustix::io::read(faults, &mut message).context("read")?;
    thread::sleep(after);
    // Not the shared page of zeros: the copy that a store makes of it would make KVM try again.
    let zeros = vec![0_u8; PAGE as usize];
    let from = zeros.as_ptr().expose_provenance() as u64;
    ask(faults, COPY, &mut [place, from, PAGE, 0, 0]).context("UFFDIO_COPY")
}

fn ask<const WORDS: usize>(
    faults: &OwnedFd,
    request: libc::c_ulong,
    words: &mut [u64; WORDS],
) -> io::Result<()> {
    // SAFETY: the number of words is that of the request's structure.
    let done = unsafe { libc::ioctl(faults.as_raw_fd(), request, words.as_mut_ptr()) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
