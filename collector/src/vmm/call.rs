//! Interprets a guest's call. Pure: from a mailbox to a message or an error.

use abi::{Call, Mailbox, Phase, ResultCode};

use super::error::VmmError;

/// A message of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// A phase begins.
    Mark { phase: Phase, guest_tsc: u64 },
    /// The work is done, and the check found no error.
    Done { pages: u64, guest_tsc: u64 },
    /// The guest wants a system management interrupt.
    Smi,
    /// The guest kernel got an exception that it does not handle.
    Exception {
        vector: u64,
        error_code: u64,
        rip: u64,
        cr2: u64,
    },
}

/// Reads the mailbox of a call.
pub(super) fn read(call: Call, mailbox: &Mailbox) -> Result<Message, VmmError> {
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
                Phase::Done => Err(bad(
                    "a mark of the phase `done`, which has a separate call".into()
                )),
                phase => Ok(Message::Mark { phase, guest_tsc }),
            }
        }
        Call::Done => {
            done(mailbox)?;
            Ok(Message::Done {
                pages: numbers[0],
                guest_tsc,
            })
        }
        Call::Exception => {
            let &[vector, error_code, rip, cr2, ..] = numbers;
            Ok(Message::Exception {
                vector,
                error_code,
                rip,
                cr2,
            })
        }
        Call::Smi => Ok(Message::Smi),
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

/// The result of an access, as [`ResultCode::WrongAccess`] encodes it.
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

/// Text of the guest, without control characters.
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
        let message = read(Call::Mark, &mailbox()).unwrap();
        assert_eq!(
            message,
            Message::Mark {
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
    fn done_is_an_error_when_a_check_failed() {
        assert_eq!(
            read(Call::Done, &mailbox()).unwrap(),
            Message::Done {
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
            "wrong access: an access to page 4 was refused (error code 0x7), not allowed; 1 of 5 \
             checks failed"
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
            // Any result, but no panic.
            let _ = read(call, &signed);
        }
    }

    #[test]
    fn a_panic_message_has_no_control_characters() {
        let mut mailbox = Mailbox {
            text_len: u32::MAX,
            ..mailbox()
        };
        mailbox.text[..6].copy_from_slice(b"a\x1b[2J\xff");
        let error = read(Call::Panic, &mailbox).unwrap_err().to_string();
        assert!(error.starts_with("the guest panicked: a\\u{1b}[2J\u{fffd}"));
        assert!(!error.chars().any(char::is_control));
    }
}
