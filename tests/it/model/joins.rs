//! The model of two leads of which one is joined to the other, and of the reversal of conversions.

use leadsmith::features::leads::model::{LeadState, Transition};
use proptest::prelude::*;

use super::lead::{Expected, LeadChange, Password};
use super::{SERVICE_ACCOUNT, Step, other};

/// What the model knows of a lead beside its own fields.
#[derive(Clone, Debug, Default)]
pub struct Joins {
    /// It is joined to the other lead.
    pub is_joined: bool,
    /// What the other lead got from it: its values before and after.
    phone: Option<(String, String)>,
    email: Option<(String, String)>,
}

/// The field that a conversion overwrites.
#[derive(Clone, Copy, Debug)]
pub enum Overwrite {
    Nothing,
    Phone,
    Email,
}

pub fn overwrites() -> impl Strategy<Value = Overwrite> {
    prop_oneof![
        Just(Overwrite::Nothing),
        Just(Overwrite::Phone),
        Just(Overwrite::Email)
    ]
}

impl Overwrite {
    pub fn paths(self) -> &'static [&'static str] {
        match self {
            Self::Nothing => &[],
            Self::Phone => &["phone"],
            Self::Email => &["email"],
        }
    }
}

/// The model's result of a change of a lead: success, or the reason of the error.
pub fn apply(leads: &mut [Expected], step: &Step, change: &LeadChange) -> Result<(), &'static str> {
    let (lead, client) = (step.lead, other(step.lead));
    match change {
        LeadChange::Join(fields, password) => {
            step.etag.check()?;
            leads[lead].go(Transition::Convert)?;
            let is_client = leads[client].state == LeadState::Converted;
            if !is_client || leads[client].joins.is_joined {
                return Err("CLIENT_NOT_FOUND");
            }
            join(leads, lead, client, *fields, *password, step.caller)
        }
        LeadChange::Revert => {
            step.etag.check()?;
            leads[lead].go(Transition::RevertConversion)?;
            if leads[lead].has_complete_order() || leads[client].joins.is_joined {
                return Err("CONVERSION_SETTLED");
            }
            revert(leads, lead, client);
            Ok(())
        }
        LeadChange::Phone(_)
        | LeadChange::Email(..)
        | LeadChange::Deactivate
        | LeadChange::Reactivate
        | LeadChange::Convert
        | LeadChange::RunAction => leads[lead].apply(step, change),
    }
}

/// The value that a field gets, if it gets another one.
fn carried(old: &str, new: &str, named: bool) -> Option<(String, String)> {
    let changes = new != old && !new.is_empty() && (old.is_empty() || named);
    changes.then(|| (old.to_owned(), new.to_owned()))
}

fn join(
    leads: &mut [Expected],
    lead: usize,
    client: usize,
    fields: Overwrite,
    password: Password,
    caller: usize,
) -> Result<(), &'static str> {
    let (from, to) = (&leads[lead], &leads[client]);
    let phone = carried(&to.phone, &from.phone, matches!(fields, Overwrite::Phone));
    let email = carried(&to.email, &from.email, matches!(fields, Overwrite::Email));
    if let Some((old, new)) = &email
        && !old.is_empty()
        && old.to_lowercase() != new.to_lowercase()
    {
        if caller == SERVICE_ACCOUNT {
            return Err("OPERATOR_REQUIRED");
        }
        if matches!(password, Password::Absent) {
            return Err("CURRENT_PASSWORD_REQUIRED");
        }
    }
    if let Some((_, new)) = &phone {
        leads[client].phone.clone_from(new);
    }
    if let Some((_, new)) = &email {
        leads[client].email.clone_from(new);
    }
    leads[client].version += 1;
    leads[lead].version += 1;
    leads[lead].state = LeadState::Converted;
    leads[lead].joins = Joins {
        is_joined: true,
        phone,
        email,
    };
    Ok(())
}

fn revert(leads: &mut [Expected], lead: usize, client: usize) {
    let joins = std::mem::take(&mut leads[lead].joins);
    leads[lead].state = LeadState::Open;
    leads[lead].version += 1;
    if !joins.is_joined {
        return;
    }
    // Only this lead can have changed the client since.
    if let Some((old, _)) = joins.phone {
        leads[client].phone = old;
    }
    if let Some((old, _)) = joins.email {
        leads[client].email = old;
    }
    leads[client].version += 1;
}
