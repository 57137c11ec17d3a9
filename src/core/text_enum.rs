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
