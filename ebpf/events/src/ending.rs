//! The class of a fault whose outcome no tracepoint showed.

use crate::{Class, ErrorCode, Outcomes, Vcpu};

/// What is known of a fault when KVM is done with it.
///
/// KVM counts each outcome (`kvm_vcpu.stat.pf_*`): the counter that moved since the fault began
/// names it. `pf_emulate` has several reasons, which the error code separates. All of it is inlined
/// into the probes, whose stack has 512 bytes over all calls.
#[derive(Clone, Copy, Debug)]
pub struct Ending<'a> {
    /// How far the fault had come: one of the constants of [`Vcpu`].
    pub step: u8,
    /// Its error code.
    pub error_code: ErrorCode,
    /// Its frame lies in a memslot. Not known before [`Vcpu::REQUESTED`].
    pub has_slot: bool,
    /// KVM's counters when it began.
    pub before: &'a Outcomes,
    /// KVM's counters now.
    pub now: &'a Outcomes,
    /// What KVM_RUN returns; 0 where it does not return, or succeeds.
    pub errno: u8,
}

/// What KVM returned, if that is an error of a fault, as a positive number; else 0: a signal or a
/// repetition is none.
#[inline(always)]
pub const fn errno_of(returned: i32) -> u8 {
    const EINTR: i32 = 4;
    const EAGAIN: i32 = 11;
    let [errno, ..] = returned.unsigned_abs().to_le_bytes();
    match returned {
        -255..0 if returned != -EINTR && returned != -EAGAIN => errno,
        _ => 0,
    }
}

impl Ending<'_> {
    /// KVM gave the fault to its emulator before it asked for an entry. Then KVM may remember the
    /// page as MMIO (`vcpu_cache_mmio_info`).
    #[inline(always)]
    pub const fn is_emulated_unasked(&self) -> bool {
        self.step != Vcpu::REQUESTED && self.step != Vcpu::REFUSED && self.is_emulated()
    }

    #[inline(always)]
    const fn is_emulated(&self) -> bool {
        // A marker for MMIO is emulated without being counted (`handle_mmio_page_fault`).
        let is_marker = self.step == Vcpu::CALLED && self.error_code.is_reserved();
        self.now.emulate != self.before.emulate || is_marker
    }

    /// Its class. Of one that [`Self::is_emulated_unasked`]: KVM remembers its page as MMIO, which
    /// it may also have forgotten; and its frame may be a shadowed guest table.
    #[inline(always)]
    pub const fn class(&self, is_mmio: bool, may_be_table: bool) -> Class {
        let requested = self.step == Vcpu::REQUESTED;
        if self.step == Vcpu::REFUSED {
            Class::Guest
        } else if requested && !self.has_slot {
            Class::Mmio
        } else if self.is_emulated() {
            let is_store = !is_mmio && may_be_table && may_be_tracked(self.error_code);
            match requested || is_store {
                true => Class::WriteProtected,
                false => Class::Mmio,
            }
        } else if self.now.spurious != self.before.spurious {
            Class::Spurious
        } else if self.now.fast != self.before.fast {
            Class::Fast
        } else if self.errno != 0 && self.now.fixed == self.before.fixed {
            Class::Failed
        } else {
            Class::Retried
        }
    }
}

/// KVM looks whether a frame is write-tracked only where an entry is present and refuses a store
/// (`page_fault_handle_page_track`). What else it emulates without an entry has no memslot, or is a
/// store to a read-only one (`KVM_PFN_ERR_RO_FAULT`), which is device memory to the guest too.
#[inline(always)]
const fn may_be_tracked(error_code: ErrorCode) -> bool {
    error_code.is_present() && error_code.is_write() && !error_code.is_reserved()
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: u32 = 1;
    const W: u32 = 2;
    const U: u32 = 4;
    const RSVD: u32 = 8;
    const I: u32 = 16;

    /// `is`: whether its frame has a slot, is remembered as MMIO, may be a table.
    fn class(step: u8, error_code: u32, moved: &str, is: [bool; 3]) -> Class {
        let [has_slot, is_mmio, may_be_table] = is;
        let before = Outcomes {
            taken: 9,
            ..Outcomes::default()
        };
        let mut now = before;
        match moved {
            "fixed, EFAULT" => now.fixed += 1,
            "emulate" => now.emulate += 1,
            "spurious" => now.spurious += 1,
            "fast" => now.fast += 1,
            _ => {}
        }
        let ending = Ending {
            step,
            error_code: ErrorCode(error_code),
            has_slot,
            before: &before,
            now: &now,
            errno: if moved.ends_with("EFAULT") { 14 } else { 0 },
        };
        ending.class(is_mmio, may_be_table)
    }

    /// Every combination of P, W, U, RSVD and I/D that the CPU makes.
    fn error_codes() -> impl Iterator<Item = u32> {
        (0..32).filter(|code| code & (W | I) != W | I && (code & RSVD == 0 || code & P != 0))
    }

    #[test]
    fn signals_and_repetitions_are_no_errors() {
        let returned = [0, 1, -4, -11, -14, -133, -256, i32::MIN];
        assert_eq!(returned.map(errno_of), [0, 0, 0, 0, 14, 133, 0, 0]);
    }

    /// Only a store that a present entry refuses can be to a tracked table.
    #[test]
    fn an_emulated_fault_is_a_store_to_a_table_only_where_kvm_asks_for_tracking() {
        let steps = [Vcpu::CALLED, Vcpu::WALKING, Vcpu::WALKED];
        for (step, code) in steps
            .into_iter()
            .flat_map(|s| error_codes().map(move |c| (s, c)))
        {
            let tracked = [P | W, P | W | U].contains(&code);
            let expected = match tracked {
                true => Class::WriteProtected,
                false => Class::Mmio,
            };
            let of = |is_mmio, table| class(step, code, "emulate", [false, is_mmio, table]);
            assert_eq!(
                of(false, true),
                expected,
                "step {step}, error code {code:#x}"
            );
            for (is_mmio, table) in [(true, true), (true, false), (false, false)] {
                assert_eq!(of(is_mmio, table), Class::Mmio, "step {step}, {code:#x}");
            }
        }
    }

    /// KVM had asked for an entry of a memslot's frame: it emulates only a store that the entry
    /// must refuse (`make_spte`, RET_PF_EMULATE of `mmu_set_spte`).
    #[test]
    fn what_is_emulated_after_the_request_is_a_store_to_a_table() {
        for code in error_codes() {
            let of = |has_slot| class(Vcpu::REQUESTED, code, "emulate", [has_slot, false, true]);
            assert_eq!(of(true), Class::WriteProtected);
            assert_eq!(of(false), Class::Mmio);
        }
    }

    /// `handle_mmio_page_fault` comes before `pf_taken` and the others are counted.
    #[test]
    fn a_marker_is_mmio_although_nothing_was_counted() {
        for code in error_codes().filter(|code| code & RSVD != 0) {
            assert_eq!(
                class(Vcpu::CALLED, code, "", [false, false, true]),
                Class::Mmio
            );
        }
    }

    #[test]
    fn the_counter_that_moved_names_the_class() {
        let steps = [Vcpu::CALLED, Vcpu::WALKING, Vcpu::WALKED];
        for (step, code) in steps
            .into_iter()
            .flat_map(|s| error_codes().map(move |c| (s, c)))
        {
            if step == Vcpu::CALLED && code & RSVD != 0 {
                continue;
            }
            let of = |moved| class(step, code, moved, [false, false, true]);
            assert_eq!(of("spurious"), Class::Spurious);
            assert_eq!(of("fast"), Class::Fast);
            assert_eq!(of(""), Class::Retried);
            assert_eq!(of("EFAULT"), Class::Failed);
            assert_eq!(of("fixed, EFAULT"), Class::Retried);
        }
        for code in error_codes() {
            let refused = class(Vcpu::REFUSED, code, "", [false, false, true]);
            assert_eq!(refused, Class::Guest);
        }
    }
}
