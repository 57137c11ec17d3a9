//! Enums that are stored and sent as text. Each variant has one name, which is the same in the database, in
//! the history and, after the enum's prefix, in the contract. `strum` derives the names.

use std::str::FromStr;

use strum::VariantArray;

/// An enum whose variants each have a text.
pub trait TextEnum: Copy + Into<&'static str> + FromStr + VariantArray {
    /// All variants, in the order of their definition.
    const ALL: &'static [Self] = Self::VARIANTS;

    /// The text of the variant.
    fn as_str(self) -> &'static str {
        self.into()
    }

    /// The variant with this text.
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl<T: Copy + Into<&'static str> + FromStr + VariantArray> TextEnum for T {}

/// Defines an enum with a text for each variant: its name in `SCREAMING_SNAKE_CASE`, or in the case that is given
/// before the enum.
macro_rules! text_enum {
    ($(#[$meta:meta])* pub enum $name:ident $variants:tt) => {
        $crate::core::text_enum::text_enum! {
            "SCREAMING_SNAKE_CASE" $(#[$meta])* pub enum $name $variants
        }
    };
    ($case:tt $(#[$meta:meta])* pub enum $name:ident $variants:tt) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
            strum::Display, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
        )]
        #[serde(rename_all = $case)]
        #[strum(serialize_all = $case)]
        pub enum $name $variants
    };
}

pub(crate) use text_enum;
