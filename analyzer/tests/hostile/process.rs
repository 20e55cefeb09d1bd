//! One command under limits.

use std::{
    fs,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use crate::support::analyzer;

/// CPU time, seconds: the traces are small.
const CPU: u64 = 20;
/// Until a process that waits is stopped.
const WALL: Duration = Duration::from_secs(180);
/// Memory that can be asked for, bytes: the heap grows in large steps that are not all used.
const MEMORY: u64 = 3 << 30;
/// Memory that may be used at a time, bytes.
const USED: u64 = 1 << 30;
/// What may be printed or written, bytes.
const OUTPUT: u64 = 64 << 20;

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// That signal.
    pub signal: Option<i32>,
    /// What it said.
    pub error: String,
    /// What it let through of [`maker::damage::EVIL`].
    pub raw: Option<&'static str>,
    /// CPU time.
    pub cpu: Duration,
    /// Peak memory, bytes.
    pub memory: u64,
}

impl Outcome {
    /// What is wrong with it.
    pub fn finding(&self) -> Option<String> {
        let error = &self.error;
        let panicked = ["panicked at", "RUST_BACKTRACE", "overflowed its stack"]
            .iter()
            .any(|words| error.contains(words));
        let what = match (self.code, self.signal) {
            (_, Some(libc::SIGXCPU)) => format!("more than {CPU} s of CPU"),
            (_, Some(libc::SIGXFSZ)) => format!("wrote more than {OUTPUT} bytes"),
            (_, Some(libc::SIGKILL)) => "did not end".to_owned(),
            (_, Some(signal)) => format!("signal {signal}"),
            (Some(code), None) if !matches!(code, 0..=2) => format!("exit code {code}"),
            _ if panicked => "text of a panic".to_owned(),
            (Some(2), None) if error.is_empty() => "an error without a word".to_owned(),
            _ if self.memory > USED => format!("{} MiB", self.memory >> 20),
            _ => self.raw?.to_owned(),
        };
        Some(format!("{what}\n{error}"))
    }
}

/// Runs a command on a trace.
pub fn run(words: &[&str], trace: &Path) -> Outcome {
    let folder = trace.parent().unwrap();
    let name = trace.file_name().unwrap();
    let [out, said, failed] = ["out.html", "stdout", "stderr"].map(|name| folder.join(name));
    let file = |path| Stdio::from(fs::File::create(path).unwrap());
    let mut command = analyzer();
    for word in words {
        match *word {
            "TRACE" => command.arg(name),
            "OUT" => command.arg(&out),
            "TWICE" => command.arg("."),
            word => command.arg(word),
        };
    }
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(file(&said))
        .stderr(file(&failed));
    limit(&mut command);
    let (status, cpu, memory) = wait(&mut command);
    let read = |path| fs::read(path).unwrap_or_default();
    let (text, error) = (read(&said), read(&failed));
    let page = read(&out);
    let _ = fs::remove_file(&out);
    let control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\n' | b'\t');
    // What is exported is data of another program.
    let is_page = words.first() != Some(&"export");
    let raw = if text.iter().chain(&error).any(control) {
        Some("control characters on the terminal")
    } else if is_page && String::from_utf8_lossy(&page).contains("<script>alert") {
        Some("a script in the page")
    } else {
        None
    };
    Outcome {
        code: status.code(),
        signal: status.signal(),
        error: String::from_utf8_lossy(&error).into_owned(),
        raw,
        cpu,
        memory,
    }
}

/// Sets the limits in the child.
fn limit(command: &mut Command) {
    let limits = [
        (libc::RLIMIT_CPU, CPU),
        (libc::RLIMIT_AS, MEMORY),
        (libc::RLIMIT_FSIZE, OUTPUT),
        (libc::RLIMIT_CORE, 0),
    ];
    let set = move || {
        for (which, most) in limits {
            let both = libc::rlimit {
                rlim_cur: most,
                rlim_max: most + 1,
            };
            // SAFETY: reads the structure, and changes nothing but this process's own limit.
            if unsafe { libc::setrlimit(which, &raw const both) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec only `setrlimit` is called, which is async-signal-safe.
    unsafe { command.pre_exec(set) };
}

/// Waits for its end: status, CPU time, peak memory.
#[expect(
    clippy::zombie_processes,
    reason = "wait4 waits, and says what the child used"
)]
fn wait(command: &mut Command) -> (ExitStatus, Duration, u64) {
    let child = command.spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let begun = Instant::now();
    loop {
        let mut status = 0;
        // SAFETY: all zeros is a valid value of this structure of numbers.
        let mut used: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: waits for a child of this process alone, and writes to two of its variables.
        let ended = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut used) };
        assert!(ended >= 0, "{}", std::io::Error::last_os_error());
        if ended == pid {
            let time = |of: libc::timeval| {
                Duration::from_secs(of.tv_sec as u64) + Duration::from_micros(of.tv_usec as u64)
            };
            let cpu = time(used.ru_utime) + time(used.ru_stime);
            return (
                ExitStatus::from_raw(status),
                cpu,
                used.ru_maxrss as u64 * 1024,
            );
        }
        if begun.elapsed() > WALL {
            // SAFETY: the child was not waited for, so that its id is still its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
