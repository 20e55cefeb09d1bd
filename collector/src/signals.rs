//! Signals that end what is being done, or that a recording waits for.
//!
//! A signal that was ignored when the program was started stays ignored: `nohup` says so of SIGHUP,
//! a script of the SIGINT of what it starts in the background.

use std::{
    io,
    mem::MaybeUninit,
    ptr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use libc::c_int;

/// What ends the program unless it says otherwise: Ctrl-C, `kill`, a terminal that is closed.
const ENDING: [c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// One of [`ENDING`] came.
static ENDED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// SIGUSR1 came.
static USR1: AtomicBool = AtomicBool::new(false);

extern "C" fn on_ending(_: c_int) {
    // Loads and stores of atomics are all that a signal handler may do here.
    if let Some(ended) = ENDED.get() {
        ended.store(true, Ordering::Release);
    }
}

extern "C" fn on_usr1(_: c_int) {
    USR1.store(true, Ordering::Release);
}

/// From now on Ctrl-C, SIGTERM and SIGHUP set the flag, and do not end the process.
pub fn cancel() -> io::Result<Arc<AtomicBool>> {
    let ended = ENDED.get_or_init(Arc::default);
    for signal in ENDING {
        if !is_ignored(signal)? {
            catch(signal, on_ending)?;
        }
    }
    Ok(Arc::clone(ended))
}

/// One of them came since [`cancel`].
pub fn came() -> bool {
    ENDED
        .get()
        .is_some_and(|ended| ended.load(Ordering::Acquire))
}

/// From now on they end the process again: nothing is left that must be finished, and what is still
/// printed may go to a pipe that nobody reads.
pub fn restore() -> io::Result<()> {
    for signal in ENDING {
        if !is_ignored(signal)? {
            set(signal, libc::SIG_DFL)?;
        }
    }
    Ok(())
}

/// From now on SIGUSR1 is noted, and does not end the process.
pub fn note_usr1() -> io::Result<()> {
    catch(libc::SIGUSR1, on_usr1)
}

/// SIGUSR1 was noted.
pub fn usr1_came() -> bool {
    USR1.load(Ordering::Acquire)
}

fn is_ignored(signal: c_int) -> io::Result<bool> {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: only reads what is set now, into room for it.
    if unsafe { libc::sigaction(signal, ptr::null(), now.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled by the call; all zeros are valid, too.
    Ok(unsafe { now.assume_init() }.sa_sigaction == libc::SIG_IGN)
}

fn catch(signal: c_int, handler: extern "C" fn(c_int)) -> io::Result<()> {
    set(signal, handler as libc::sighandler_t)
}

/// `handler` is one of ours or the default.
fn set(signal: c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all zeros are a valid value: no flags, and no signal is blocked meanwhile.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: both handlers only load and store atomics.
    match unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
