//! When to try again to make what can be thrown away.

/// How it went so far. What a new file does not mend (a full disk, a log that can't be read) is not
/// tried without end.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    fell: bool,
}

impl Attempts {
    /// Whether to rest after one failed that `stood` for a while, or never came so far.
    pub(super) fn must_rest_after(&mut self, stood: bool) -> bool {
        std::mem::replace(&mut self.fell, true) && !stood
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_as_soon_as_it_is_made_is_made_again_after_a_rest() {
        let mut attempts = Attempts::default();
        assert!(!attempts.must_rest_after(false), "a damaged file is replaced at once");
        assert!(attempts.must_rest_after(false), "the new one is no better: the log, or the disk");
        assert!(attempts.must_rest_after(false));
        assert!(!attempts.must_rest_after(true), "it stood for a while");
        assert!(attempts.must_rest_after(false));
    }
}
