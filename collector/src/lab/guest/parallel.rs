//! The parallel port, through which the lab on Bochs sends its messages. Bochs appends each byte to
//! a file of the host before the instruction that strobes it is done: nothing is lost, nothing has
//! to be confirmed, and no driver, interrupt or baud rate takes the machine's time.

use std::{arch::asm, io};

/// The port's registers: data, status, control.
const DATA: u16 = 0x378;
const CONTROL: u16 = DATA + 2;
const REGISTERS: u16 = 3;
/// Bits of the control register: the printer is selected, the data is valid.
const SELECTED: u8 = 1 << 3;
const STROBE: u8 = 1 << 0;

/// The port.
#[derive(Debug)]
pub struct Parallel;

impl io::Write for Parallel {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let access = Access::new()?;
        access.out(CONTROL, SELECTED);
        for byte in bytes {
            access.out(DATA, *byte);
            access.out(CONTROL, SELECTED | STROBE);
            access.out(CONTROL, SELECTED);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// This thread may use the registers. Not for longer than a write: its children would inherit it,
/// and the kernel would have more to do whenever it switches to one of them.
struct Access;

impl Access {
    fn new() -> io::Result<Self> {
        permit(true)?;
        Ok(Self)
    }

    fn out(&self, register: u16, value: u8) {
        // SAFETY: the lab's init runs in an emulated machine only, where these registers are those
        // of a printer, and this thread has the permission to use them.
        unsafe {
            asm!("out dx, al", in("dx") register, in("al") value,
                 options(nomem, nostack, preserves_flags));
        }
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        // Taking a permission back does not fail.
        let _ = permit(false);
    }
}

fn permit(yes: bool) -> io::Result<()> {
    // SAFETY: no memory is involved.
    let result = unsafe { libc::ioperm(DATA.into(), REGISTERS.into(), yes.into()) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
