//! Enums whose names are the domain's words: the same in the code, in the database and, behind the
//! enum's prefix, on the wire.

/// Defines an enum together with the word each variant is stored and sent as.
macro_rules! words {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every variant, in the order of their definition.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word it is stored and sent as.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The variant a word stands for.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

/// Translates a domain enum to and from the generated one of the same words.
macro_rules! on_the_wire {
    ($name:ty, $proto:ty, $prefix:literal) => {
        impl $name {
            /// As the generated enum's number.
            pub fn to_wire(self) -> i32 {
                let name = format!("{}{}", $prefix, self.word());
                <$proto>::from_str_name(&name).map_or(0, i32::from)
            }

            /// From the generated enum's number; none for a number without a word, as 0 is.
            pub fn from_wire(number: i32) -> Option<Self> {
                let name = <$proto>::try_from(number).ok()?.as_str_name();
                Self::from_word(name.strip_prefix($prefix)?)
            }
        }
    };
}

pub(crate) use {on_the_wire, words};
