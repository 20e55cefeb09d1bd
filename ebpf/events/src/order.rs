//! A record's number comes before what it says.

/// Why there is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRead<N> {
    /// There was no number, or no room.
    NoRoom,
    /// The number is taken, but the kernel's memory could not be read.
    Unreadable(N),
}

/// Takes a number, then reads what the record says.
///
/// Without `mmu_lock` another vCPU may change an entry at any moment. If it does so after the
/// number is taken, its own record has a later number, and replay ends with its value, whichever
/// value was read here. The other way round, the older value would get the later number.
#[inline(always)]
pub fn number_then_read<N, T>(
    number: impl FnOnce() -> Option<N>,
    read: impl FnOnce() -> Option<T>,
) -> Result<(N, T), NotRead<N>> {
    let number = number().ok_or(NotRead::NoRoom)?;
    match read() {
        Some(value) => Ok((number, value)),
        None => Err(NotRead::Unreadable(number)),
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::{NotRead, number_then_read};

    /// An entry, and the number that the next record gets.
    struct Machine {
        entry: Cell<u64>,
        next: Cell<u64>,
    }

    impl Machine {
        fn number(&self) -> Option<u64> {
            self.next.set(self.next.get() + 1);
            Some(self.next.get())
        }

        /// Another vCPU's store with its record.
        fn store(&self, value: u64) -> (u64, u64) {
            self.entry.set(value);
            (self.next.replace(self.next.get() + 1) + 1, value)
        }
    }

    /// Wherever the other vCPU's store falls, the record with the highest number has the last
    /// value.
    #[test]
    fn the_highest_number_has_the_last_value() {
        for at in 0..4 {
            let machine = Machine {
                entry: Cell::new(7),
                next: Cell::new(0),
            };
            let other = Cell::new(None);
            let step = |now: u32| {
                if now == at {
                    other.set(Some(machine.store(8)));
                }
            };
            step(0);
            let number = || {
                let number = machine.number();
                step(1);
                number
            };
            let read = || {
                step(2);
                Some(machine.entry.get())
            };
            let own = number_then_read(number, read).expect("a record");
            step(3);
            let (_, last) = own.max(other.get().expect("a store"));
            assert_eq!(last, 8, "a store at step {at}");
        }
    }

    #[test]
    fn nothing_is_read_without_a_number() {
        let none: Result<((), ()), _> = number_then_read(|| None, || panic!("read"));
        assert_eq!(none, Err(NotRead::NoRoom));
        let none: Result<(u8, ()), _> = number_then_read(|| Some(1), || None);
        assert_eq!(none, Err(NotRead::Unreadable(1)));
    }
}
