//! What the guest tells the VMM.

use crate::number::numbered;
use crate::{ABI_VERSION, MAGIC};

/// Room for a panic message, in bytes.
pub const TEXT_BYTES: usize = 256;

numbered! {
    /// How the work ended, in [`Mailbox::code`] of [`crate::Call::Done`].
    pub enum ResultCode {
        /// Every page held what was written. `numbers[0]`: pages touched.
        Ok = 0 => "ok",
        /// A page held something else. `numbers`: pages touched, first bad page, value
        /// found, value expected, number of bad pages.
        WrongValue = 1 => "wrong value",
        /// A fresh page did not read zero. `numbers` as in `WrongValue`.
        NotZero = 2 => "fresh page not zero",
        /// The guest refused its [`crate::BootInfo`].
        BadBootInfo = 3 => "bad boot info",
        /// No frame left for a page table or a work page.
        OutOfFrames = 4 => "out of frames",
        /// An access was refused that the guest's tables allow, or the other way round.
        /// `numbers` as in `WrongValue`; a "value" is the page fault's error code with bit 63
        /// set, or 0 where the access went through.
        WrongAccess = 5 => "wrong access",
        /// The guest's #PF handler was called more often, or less, than the tables say.
        /// `numbers` as in `WrongValue`; a "value" is a number of refused accesses.
        WrongRefusals = 6 => "number of refused accesses",
    }
}

/// The guest's side of a call, at [`crate::layout::mailbox`] of the CPU that calls. Any value may be found in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// [`MAGIC`], written by the guest at its start.
    pub magic: u64,
    /// [`ABI_VERSION`] the guest was built with.
    pub version: u32,
    /// A [`crate::Phase`].
    pub phase: u32,
    /// The guest's time-stamp counter at the mark, in guest TSC cycles.
    pub guest_tsc: u64,
    /// A [`ResultCode`].
    pub code: u32,
    /// Valid bytes of `text`.
    pub text_len: u32,
    /// Meaning depends on the call and the code.
    pub numbers: [u64; 6],
    /// A panic message in UTF-8, cut where the room ends.
    pub text: [u8; TEXT_BYTES],
}

const _: () = assert!(size_of::<Mailbox>() == Mailbox::BYTES);

impl Mailbox {
    /// Size in bytes.
    pub const BYTES: usize = 336;

    /// Reads one as it stands in guest memory; checks nothing.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        let low = |index: usize| word(index) as u32;
        let high = |index: usize| (word(index) >> 32) as u32;
        let mut text = [0; TEXT_BYTES];
        text.copy_from_slice(&bytes[Self::BYTES - TEXT_BYTES..]);
        Self {
            magic: word(0),
            version: low(1),
            phase: high(1),
            guest_tsc: word(2),
            code: low(3),
            text_len: high(3),
            numbers: core::array::from_fn(|index| word(4 + index)),
            text,
        }
    }

    /// Whether magic and version are those of this crate.
    #[must_use]
    pub const fn is_current(&self) -> bool {
        self.magic == MAGIC && self.version == ABI_VERSION
    }

    /// The valid bytes of `text`, whatever length was claimed.
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
    fn fields_are_read_where_the_guest_writes_them() {
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
    fn a_claimed_length_is_not_trusted() {
        let mailbox = Mailbox::from_bytes(&[0xff; Mailbox::BYTES]);
        assert_eq!(mailbox.text_bytes().len(), TEXT_BYTES);
    }
}
