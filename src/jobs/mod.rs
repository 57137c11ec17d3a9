//! Background jobs: what runs independently of calls.
//!
//! A job has no caller and no request, so it must not depend on `grpc` or `server`.

pub mod last_use;
pub mod outdated;
pub mod retention;
