//! What a guest's call means. Pure: from the mailbox's bytes to an answer or an error.

use abi::{Call, Mailbox, Phase, ResultCode};

use super::VmmError;

/// What the guest said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A phase begins.
    Mark { phase: Phase, guest_tsc: u64 },
    /// The work is done and right.
    Done { pages: u64, guest_tsc: u64 },
    /// The guest kernel met an exception: vector, error code, RIP, CR2.
    Exception {
        vector: u64,
        error_code: u64,
        rip: u64,
        cr2: u64,
    },
}

/// Reads the mailbox as `call` asks.
pub(super) fn read(call: Call, mailbox: &Mailbox) -> Result<Said, VmmError> {
    if !mailbox.is_current() {
        return Err(bad(format!(
            "magic {:#x}, version {}; expected {:#x}, {}",
            mailbox.magic,
            mailbox.version,
            abi::MAGIC,
            abi::ABI_VERSION
        )));
    }
    let numbers = &mailbox.numbers;
    let guest_tsc = mailbox.guest_tsc;
    match call {
        Call::Mark => {
            match Phase::try_from(mailbox.phase).map_err(|error| bad(error.to_string()))? {
                Phase::Done => Err(bad("a mark of the phase that only `done` may send".into())),
                phase => Ok(Said::Mark { phase, guest_tsc }),
            }
        }
        Call::Done => {
            done(mailbox)?;
            Ok(Said::Done {
                pages: numbers[0],
                guest_tsc,
            })
        }
        Call::Exception => {
            let &[vector, error_code, rip, cr2, ..] = numbers;
            Ok(Said::Exception {
                vector,
                error_code,
                rip,
                cr2,
            })
        }
        Call::Panic => Err(VmmError::GuestPanic {
            text: printable(mailbox.text_bytes()),
        }),
    }
}

fn done(mailbox: &Mailbox) -> Result<(), VmmError> {
    let code = ResultCode::try_from(mailbox.code).map_err(|error| bad(error.to_string()))?;
    let &[pages, first_bad_page, found, expected, bad_pages, _] = &mailbox.numbers;
    match code {
        ResultCode::Ok => Ok(()),
        ResultCode::WrongValue | ResultCode::NotZero | ResultCode::WrongRefusals => {
            Err(VmmError::WrongResult {
                code,
                first_bad_page,
                found,
                expected,
                bad_pages,
                pages,
            })
        }
        ResultCode::WrongAccess => Err(VmmError::WrongAccess {
            page: first_bad_page,
            found: access(found),
            expected: access(expected),
            bad_pages,
            pages,
        }),
        ResultCode::BadBootInfo | ResultCode::OutOfFrames => Err(VmmError::GuestRefused { code }),
    }
}

/// How an access went, as [`ResultCode::WrongAccess`] has it.
fn access(number: u64) -> String {
    const REFUSED: u64 = 1 << 63;
    if number & REFUSED == 0 {
        "allowed".to_owned()
    } else {
        format!("refused (error code {:#x})", number & !REFUSED)
    }
}

fn bad(what: String) -> VmmError {
    VmmError::BadMailbox { what }
}

/// Guest text, safe for a terminal.
fn printable(text: &[u8]) -> String {
    let escape = |c: char| match c {
        '\n' | '\t' => String::from(' '),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    String::from_utf8_lossy(text).chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use abi::{ABI_VERSION, MAGIC, TEXT_BYTES};

    fn mailbox() -> Mailbox {
        Mailbox {
            magic: MAGIC,
            version: ABI_VERSION,
            phase: Phase::Touch.number(),
            guest_tsc: 42,
            code: 0,
            text_len: 0,
            numbers: [5, 4, 3, 2, 1, 0],
            text: [0; TEXT_BYTES],
        }
    }

    #[test]
    fn a_mark_names_its_phase() {
        let said = read(Call::Mark, &mailbox()).unwrap();
        assert_eq!(
            said,
            Said::Mark {
                phase: Phase::Touch,
                guest_tsc: 42
            }
        );
        for phase in [0, Phase::Done.number(), 8, u32::MAX] {
            let error = read(Call::Mark, &Mailbox { phase, ..mailbox() }).unwrap_err();
            assert!(matches!(error, VmmError::BadMailbox { .. }), "{phase}");
        }
    }

    #[test]
    fn done_is_only_done_when_the_memory_was_right() {
        assert_eq!(
            read(Call::Done, &mailbox()).unwrap(),
            Said::Done {
                pages: 5,
                guest_tsc: 42
            }
        );
        let wrong = Mailbox {
            code: ResultCode::WrongValue.number(),
            ..mailbox()
        };
        assert_eq!(
            read(Call::Done, &wrong).unwrap_err().to_string(),
            "wrong memory contents (wrong value): page 4 holds 0x3, not 0x2; 1 of 5 pages are wrong"
        );
        let refused = Mailbox {
            code: ResultCode::WrongAccess.number(),
            numbers: [5, 4, 1 << 63 | 7, 0, 1, 0],
            ..mailbox()
        };
        assert_eq!(
            read(Call::Done, &refused).unwrap_err().to_string(),
            "wrong access: to page 4 it was refused (error code 0x7), not allowed; 1 of 5 went wrong"
        );
        assert!(
            read(
                Call::Done,
                &Mailbox {
                    code: 99,
                    ..mailbox()
                }
            )
            .is_err()
        );
    }

    #[test]
    fn garbage_gives_errors() {
        let garbage = Mailbox::from_bytes(&[0xff; Mailbox::BYTES]);
        for &call in Call::ALL {
            assert!(matches!(
                read(call, &garbage),
                Err(VmmError::BadMailbox { .. })
            ));
            let signed = Mailbox {
                magic: MAGIC,
                version: ABI_VERSION,
                ..garbage
            };
            // Whatever the answer: no panic.
            let _ = read(call, &signed);
        }
    }

    #[test]
    fn a_panic_text_cannot_drive_the_terminal() {
        let mut said = Mailbox {
            text_len: u32::MAX,
            ..mailbox()
        };
        said.text[..6].copy_from_slice(b"a\x1b[2J\xff");
        let error = read(Call::Panic, &said).unwrap_err().to_string();
        assert!(error.starts_with("the guest panicked: a\\u{1b}[2J\u{fffd}"));
        assert!(!error.chars().any(char::is_control));
    }
}
