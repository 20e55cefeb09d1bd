//! What the guest passes to the VMM.

use crate::number::numbered;
use crate::{ABI_VERSION, MAGIC};

/// Maximum size of a panic message, in bytes.
pub const TEXT_BYTES: usize = 256;

numbered! {
    /// The result of the work, in [`Mailbox::code`] of [`crate::Call::Done`].
    pub enum ResultCode {
        /// Every page held the value that was written. `numbers[0]`: pages touched.
        Ok = 0 => "ok",
        /// A page held another value. `numbers`: pages touched, first bad page, value found, value
        /// expected, number of bad pages.
        WrongValue = 1 => "wrong value",
        /// A fresh page did not read zero. `numbers` as in `WrongValue`.
        NotZero = 2 => "fresh page not zero",
        /// The guest refused its [`crate::BootInfo`].
        BadBootInfo = 3 => "bad boot info",
        /// No frame is left for a page table or a work page.
        OutOfFrames = 4 => "out of frames",
        /// An access was refused that the guest's tables allow, or the other way round. `numbers`
        /// as in `WrongValue`; a "value" is the page fault's error code with bit 63 set, or 0 if
        /// the access was allowed.
        WrongAccess = 5 => "wrong access",
        /// The guest's #PF handler was called more or less often than the tables imply. `numbers`
        /// as in `WrongValue`; a "value" is a number of refused accesses.
        WrongRefusals = 6 => "number of refused accesses",
    }
}

/// The arguments of a call, at [`crate::layout::mailbox`] of the calling CPU. It may hold any
/// bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// [`MAGIC`], which the guest writes at its start.
    pub magic: u64,
    /// The [`ABI_VERSION`] of the guest.
    pub version: u32,
    /// A [`crate::Phase`].
    pub phase: u32,
    /// The guest's time-stamp counter at the mark, in guest TSC cycles.
    pub guest_tsc: u64,
    /// A [`ResultCode`].
    pub code: u32,
    /// Valid bytes of `text`.
    pub text_len: u32,
    /// The meaning depends on the call and the code.
    pub numbers: [u64; 6],
    /// A panic message in UTF-8, truncated to [`TEXT_BYTES`].
    pub text: [u8; TEXT_BYTES],
}

const _: () = assert!(size_of::<Mailbox>() == Mailbox::BYTES);

impl Mailbox {
    /// Size in bytes.
    pub const BYTES: usize = 336;

    /// As in guest memory; checks nothing.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        let half = |at: usize| {
            let mut half = [0; 4];
            half.copy_from_slice(&bytes[4 * at..4 * at + 4]);
            u32::from_le_bytes(half)
        };
        let mut text = [0; TEXT_BYTES];
        text.copy_from_slice(&bytes[Self::BYTES - TEXT_BYTES..]);
        Self {
            magic: word(0),
            version: half(2),
            phase: half(3),
            guest_tsc: word(2),
            code: half(6),
            text_len: half(7),
            numbers: core::array::from_fn(|index| word(4 + index)),
            text,
        }
    }

    /// Whether magic and version are those of this crate.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        self.magic == MAGIC && self.version == ABI_VERSION
    }

    /// The valid bytes of `text`; `text_len` is not trusted.
    #[must_use]
    pub fn text_bytes(&self) -> &[u8] {
        let claimed = usize::try_from(self.text_len).unwrap_or(TEXT_BYTES);
        &self.text[..claimed.min(TEXT_BYTES)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn fields_are_read_at_their_offsets() {
        let mut bytes = [0; Mailbox::BYTES];
        for (offset, value) in [
            (offset_of!(Mailbox, version), 1),
            (offset_of!(Mailbox, phase), 2),
            (offset_of!(Mailbox, guest_tsc), 3),
            (offset_of!(Mailbox, code), 4),
            (offset_of!(Mailbox, text_len), 5),
            (offset_of!(Mailbox, numbers) + 40, 6),
            (offset_of!(Mailbox, text), 7),
            (offset_of!(Mailbox, text) + TEXT_BYTES - 1, 8),
        ] {
            bytes[offset] = value;
        }
        let mailbox = Mailbox::from_bytes(&bytes);
        assert_eq!(
            (mailbox.version, mailbox.phase, mailbox.guest_tsc),
            (1, 2, 3)
        );
        assert_eq!(
            (mailbox.code, mailbox.text_len, mailbox.numbers[5]),
            (4, 5, 6)
        );
        assert_eq!((mailbox.text[0], mailbox.text[TEXT_BYTES - 1]), (7, 8));
        assert!(!mailbox.is_current());
    }

    #[test]
    fn the_length_of_the_text_is_not_trusted() {
        let mailbox = Mailbox::from_bytes(&[0xff; Mailbox::BYTES]);
        assert_eq!(mailbox.text_bytes().len(), TEXT_BYTES);
    }
}
