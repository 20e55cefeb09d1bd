//! Reports a panic of the guest's code to the VMM.

use abi::{Call, Mailbox, TEXT_BYTES};
use core::fmt::{self, Write};
use core::panic::PanicInfo;

use crate::call;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    call::with_mailbox(|mailbox| {
        mailbox.text_len = 0;
        // The writer truncates the text and never fails.
        let _ = write!(Text(mailbox), "{info}");
    });
    call::end(Call::Panic)
}

/// Appends to the mailbox's text while there is space.
struct Text<'a>(&'a mut Mailbox);

impl Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            let length = self.0.text_len as usize;
            if length < TEXT_BYTES {
                self.0.text[length] = byte;
                self.0.text_len += 1;
            }
        }
        Ok(())
    }
}
