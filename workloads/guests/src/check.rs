//! What a guest finds when it checks its own work.

use abi::ResultCode;

use crate::access::{REFUSED, Refused};
use crate::call;

/// Pages checked and the first that was wrong.
#[derive(Debug, Default)]
pub struct Check {
    pages: u64,
    first: Option<Wrong>,
    bad: u64,
}

#[derive(Clone, Copy, Debug)]
struct Wrong {
    code: ResultCode,
    page: u64,
    found: u64,
    expected: u64,
}

impl Check {
    /// `page` holds `found`, and should hold `expected`.
    pub fn value(&mut self, page: u64, found: u64, expected: u64) {
        self.compare(ResultCode::WrongValue, page, found, expected);
    }

    /// A page that nobody wrote holds `found`.
    pub fn fresh(&mut self, page: u64, found: u64) {
        self.compare(ResultCode::NotZero, page, found, 0);
    }

    /// A load of `page`, which must go through, and what it should find.
    pub fn load(&mut self, page: u64, found: Result<u64, Refused>, expected: u64) {
        match found {
            Ok(found) => self.value(page, found, expected),
            Err(refused) => self.went(page, Err(refused), None),
        }
    }

    /// An access to `page` went as `found` says; `expected` is the error code that it should
    /// have been refused with, or `None`.
    pub fn went(&mut self, page: u64, found: Result<(), Refused>, expected: Option<u64>) {
        let found = found.err().map(|refused| refused.error_code);
        let number = |code: Option<u64>| code.map_or(0, |code| REFUSED | code);
        self.compare(
            ResultCode::WrongAccess,
            page,
            number(found),
            number(expected),
        );
    }

    /// The #PF handler has refused as many accesses as should be.
    pub fn refusals(&mut self, found: u64, expected: u64) {
        self.compare(ResultCode::WrongRefusals, 0, found, expected);
    }

    fn compare(&mut self, code: ResultCode, page: u64, found: u64, expected: u64) {
        self.pages += 1;
        if found == expected {
            return;
        }
        self.bad += 1;
        self.first.get_or_insert(Wrong {
            code,
            page,
            found,
            expected,
        });
    }

    /// Whether anything was wrong so far.
    pub fn is_bad(&self) -> bool {
        self.bad > 0
    }

    /// Ends this CPU's part of the run.
    pub fn finish(self) -> ! {
        match self.first {
            None => call::done(ResultCode::Ok, &[self.pages]),
            Some(wrong) => call::done(
                wrong.code,
                &[
                    self.pages,
                    wrong.page,
                    wrong.found,
                    wrong.expected,
                    self.bad,
                ],
            ),
        }
    }
}
