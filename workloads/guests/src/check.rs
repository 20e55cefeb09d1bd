//! The result of a guest's checks.

use abi::ResultCode;

use crate::access::{REFUSED, Refused};
use crate::call;

/// The number of checks, and the first that failed.
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
    /// `page` holds `found` and must hold `expected`.
    pub fn value(&mut self, page: u64, found: u64, expected: u64) {
        self.compare(ResultCode::WrongValue, page, found, expected);
    }

    /// A page that has not been written holds `found`.
    pub fn fresh(&mut self, page: u64, found: u64) {
        self.compare(ResultCode::NotZero, page, found, 0);
    }

    /// A load of `page`, which must be allowed and return `expected`.
    pub fn load(&mut self, page: u64, found: Result<u64, Refused>, expected: u64) {
        match found {
            Ok(found) => self.value(page, found, expected),
            Err(refused) => self.access(page, Err(refused), None),
        }
    }

    /// An access to `page` had the result `found`; `expected` is the error code with which it must
    /// be refused, or `None` if it must be allowed.
    pub fn access(&mut self, page: u64, found: Result<(), Refused>, expected: Option<u64>) {
        let found = found.err().map(|refused| refused.error_code);
        let number = |code: Option<u64>| code.map_or(0, |code| REFUSED | code);
        self.compare(
            ResultCode::WrongAccess,
            page,
            number(found),
            number(expected),
        );
    }

    /// The #PF handler has counted `found` refused accesses and must have counted `expected`.
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

    /// Whether a check has failed.
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
