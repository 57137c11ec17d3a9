//! Which build of the program this is. `build.rs` of the package finds out the commit.

/// The version of the package. Example: `0.1.0`.
pub const PACKAGE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that the program was built from; `unknown` if the build could not find out, and in debug builds.
pub const COMMIT: &str = env!("LEADSMITH_COMMIT");

/// The date of the commit, as `YYYY-MM-DD`; `unknown` as for [`COMMIT`].
pub const COMMIT_DATE: &str = env!("LEADSMITH_COMMIT_DATE");

/// The version, with the commit and its date. Example: `0.1.0 (0123456789ab 2026-01-31)`.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("LEADSMITH_BUILD"),
    ")"
);
