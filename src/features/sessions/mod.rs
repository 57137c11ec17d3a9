//! Sessions of operators: `AuthService`. Its rules are in [`crate::auth`].

pub mod api;
