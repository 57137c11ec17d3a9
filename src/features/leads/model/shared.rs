//! What two leads share that makes them look alike.

use super::Details;
use crate::core::text_enum::{TextEnum as _, text_enum};

text_enum! {
    /// What two leads share.
    pub enum Shared {
        /// The email, normalised.
        Email,
        /// The digits of the phone number, at least 3.
        Phone,
        /// The company together with the name.
        CompanyAndName,
    }
}

impl Shared {
    /// What two leads share. Texts are compared in the form in which Search compares them.
    pub fn of(one: &Details, other: &Details) -> Vec<Self> {
        let is_shared = |shared: &Self| match shared {
            Self::Email => !one.email.is_empty() && one.email_key() == other.email_key(),
            Self::Phone => is_same(one.searched().same_phone(), other.searched().same_phone()),
            Self::CompanyAndName => {
                is_same(one.searched().same_name(), other.searched().same_name())
            }
        };
        Self::ALL.iter().copied().filter(is_shared).collect()
    }
}

fn is_same(one: Option<Vec<String>>, other: Option<Vec<String>>) -> bool {
    one.is_some() && one == other
}
