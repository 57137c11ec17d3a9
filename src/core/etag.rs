//! Etags: the version of a record in the API.

/// The etag of a version.
pub fn etag(version: i64) -> String {
    format!("\"{version}\"")
}
