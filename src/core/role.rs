//! Roles of principals.

use super::text_enum::text_enum;

text_enum! {
    /// What a principal may do. Each role includes the permissions of the roles before it.
    pub enum Role {
        /// Read only.
        Viewer,
        /// Also change leads, opportunities and orders.
        Sales,
        /// All permissions.
        Admin,
    }
}
