//! The command line: the real program, as people and containers run it.

mod accounts;
mod configuration;
mod dashboard;
mod databases;
mod formats;
mod output;
mod restricted;
mod serving;
mod settings;
mod signals;
mod usage;

use crate::program::Ended;

const SECRET: &str = "hunter2-of-the-url";

impl Ended {
    /// It succeeded and printed nothing but the result.
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// It failed with a single sentence that contains these words and no secret. `a_failure_is_known_by_its_code` has
    /// the codes.
    pub fn refused(&self, why: &str) {
        assert!(matches!(self.code, Some(1 | 2 | 69)), "{self:?}");
        self.shows_nothing_it_should_not();
        assert_eq!(self.out, "", "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        assert!(self.err.starts_with("leadsmith: "), "{self:?}");
        assert!(self.err.contains(why), "{why:?} is not in {self:?}");
    }

    /// The command line itself was invalid.
    pub fn misused(&self, why: &str) {
        assert_eq!(self.code, Some(2), "{self:?}");
        self.shows_nothing_it_should_not();
        assert!(self.err.starts_with("error: "), "{self:?}");
        assert!(self.err.contains(why), "{why:?} is not in {self:?}");
    }

    fn shows_nothing_it_should_not(&self) {
        for word in ["panicked", "backtrace", "RUST_BACKTRACE", SECRET] {
            assert!(!self.err.contains(word), "{word}: {self:?}");
            assert!(!self.out.contains(word), "{word}: {self:?}");
        }
    }
}
