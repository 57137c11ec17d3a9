//! The basic types that all layers share. They must not depend on anything else in this crate.

pub mod backoff;
pub mod bounded;
pub mod build;
pub mod call;
pub mod call_notes;
pub mod clock;
pub mod etag;
pub mod field_change;
pub mod keyed;
pub mod money;
pub mod page;
pub mod role;
pub mod text;
pub mod text_enum;
pub mod violations;
