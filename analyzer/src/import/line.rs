//! A line as the kernel prints it.
//!
//! ```text
//! tracefs      vcpu0-26652   (  26391) [000] ...1. 75050.175975: kvm_mmu_set_spte: gfn 119 ...
//! perf script  vcpu0  26391/26652 [000] 75050.175975: kvmmmu:kvm_mmu_set_spte: gfn 119 ...
//! ```

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// The process, if the text has it (tracefs: `record-tgid`; perf: `-F +pid`).
    pub process: Option<u32>,
    /// The thread.
    pub thread: u32,
    /// Its name.
    pub name: &'a str,
    /// On the text's clock, ns.
    pub time_ns: u64,
    /// Name of the event, without its subsystem.
    pub event: &'a str,
    /// What comes after.
    pub arguments: &'a str,
}

/// The event of a line; `None` for what is none.
pub fn parse(line: &str) -> Option<Line<'_>> {
    let (head, rest) = cpu(line)?;
    let (name, process, thread) = task(head.trim())?;
    // Flags may be between, and never end with a colon.
    let mut words = rest.split_ascii_whitespace();
    let time = words.find_map(|word| word.strip_suffix(':').filter(|time| is_time(time)))?;
    let after = rest.split_once(time)?.1.strip_prefix(':')?.trim_start();
    let (event, arguments) = after
        .split_once(": ")
        .or_else(|| Some((after.strip_suffix(':')?, "")))?;
    let event = event.rsplit(':').next()?;
    Some(Line {
        process,
        thread,
        name,
        time_ns: ns(time)?,
        event,
        arguments: arguments.trim(),
    })
}

/// Records that the kernel had no room for: `CPU:0 [LOST 12 EVENTS]`, or how many of the buffer's
/// are left in the head of the text.
pub fn lost(line: &str) -> Option<u64> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("# entries-in-buffer/entries-written: ") {
        let (kept, rest) = rest.split_once('/')?;
        let written: u64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
        return written
            .checked_sub(kept.parse().ok()?)
            .filter(|lost| *lost > 0);
    }
    let (_, rest) = line
        .split_once("[LOST ")
        .or_else(|| line.split_once(" lost "))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// What is before and after the processor, `[000]`. A name of a thread may have brackets too.
fn cpu(line: &str) -> Option<(&str, &str)> {
    let mut from = 0;
    while let Some(at) = line.get(from..)?.find(" [") {
        let open = from + at + 2;
        let (number, rest) = line.get(open..)?.split_once(']')?;
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some((line.get(..open - 2)?, rest));
        }
        from = open;
    }
    None
}

/// `NAME-THREAD`, `NAME-THREAD (PROCESS)`, `NAME THREAD`, `NAME PROCESS/THREAD`.
fn task(head: &str) -> Option<(&str, Option<u32>, u32)> {
    if let Some((before, group)) = head
        .strip_suffix(')')
        .and_then(|head| head.rsplit_once('('))
    {
        let (name, thread) = before.trim_end().rsplit_once('-')?;
        // Dashes stand for a process that was not noted.
        return Some((name.trim(), group.trim().parse().ok(), thread.parse().ok()?));
    }
    if let Some((name, numbers)) = head.rsplit_once(char::is_whitespace) {
        let both = numbers.split_once('/');
        if let Some((Ok(process), Ok(thread))) = both.map(|(of, in_it)| (of.parse(), in_it.parse()))
        {
            return Some((name.trim(), Some(process), thread));
        }
        if let Ok(thread) = numbers.parse() {
            return Some((name.trim(), None, thread));
        }
    }
    let (name, thread) = head.rsplit_once('-')?;
    Some((name.trim(), None, thread.parse().ok()?))
}

fn is_time(word: &str) -> bool {
    let mut parts = word.split('.');
    let digits = |part: Option<&str>| {
        part.is_some_and(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    digits(parts.next()) && digits(parts.next()) && parts.next().is_none()
}

/// `75050.175975`, with any number of digits.
fn ns(time: &str) -> Option<u64> {
    let (seconds, fraction) = time.split_once('.')?;
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let seconds: u64 = seconds.parse().ok()?;
    seconds
        .checked_mul(1_000_000_000)?
        .checked_add(digits.parse().ok()?)
}

impl<'a> Line<'a> {
    /// The word after `name`: `gfn 119`.
    pub fn word(&self, name: &str) -> Option<&'a str> {
        let mut words = self.arguments.split_ascii_whitespace();
        words.find(|word| *word == name)?;
        words.next().map(|word| word.trim_end_matches(','))
    }

    /// The field of an event that `perf script` could not print as the kernel does: it says
    /// `[FAILED TO PARSE]`, then `exception=14 has_error=1`.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        let fields = self.arguments.strip_prefix("[FAILED TO PARSE]")?;
        let mut fields = fields.split_ascii_whitespace();
        fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    }

    /// A number in hexadecimal after `name`, with or without `0x`.
    pub fn hex(&self, name: &str) -> Option<u64> {
        hex(self.word(name)?)
    }

    /// A number after `name`.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.word(name)?.parse().ok()
    }
}

fn hex(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x").unwrap_or(word), 16).ok()
}
