//! Checked values of a workload's parameters, by name.

use crate::Value;

/// Checked values, by name. For a parameter that the workload does not have the value is 0, false
/// or empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a>(pub(crate) &'a [(&'static str, Value)]);

impl Given<'_> {
    fn value(self, name: &str) -> Option<Value> {
        let found = self.0.iter().find(|(one, _)| *one == name);
        found.map(|(_, value)| *value)
    }

    pub(crate) fn count(self, name: &str) -> u64 {
        match self.value(name) {
            Some(Value::Count(count)) => count,
            _ => 0,
        }
    }

    pub(crate) fn seed(self, name: &str) -> u64 {
        match self.value(name) {
            Some(Value::Seed(seed)) => seed,
            _ => 0,
        }
    }

    pub(crate) fn flag(self, name: &str) -> bool {
        self.value(name) == Some(Value::Flag(true))
    }

    pub(crate) fn choice(self, name: &str) -> &'static str {
        match self.value(name) {
            Some(Value::Choice(word)) => word,
            _ => "",
        }
    }
}
