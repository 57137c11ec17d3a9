//! The model of two leads of which one is joined to the other, and of the reversal of conversions.

use leadsmith::features::leads::model::{LeadState, Transition};
use proptest::prelude::*;

use super::{Etag, Expected, Password, SERVICE_ACCOUNT, Step, What, other};

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

/// The model's result of a step: success, or the reason of the error.
pub fn apply(leads: &mut [&mut Expected], step: &Step) -> Result<(), &'static str> {
    let (lead, client) = (step.lead, other(step.lead));
    match &step.what {
        What::Join(fields, password) => {
            check_etag(step)?;
            leads[lead].go(Transition::Convert)?;
            let is_client = leads[client].state == LeadState::Converted;
            if !is_client || leads[client].joins.is_joined {
                return Err("CLIENT_NOT_FOUND");
            }
            join(leads, lead, client, *fields, *password, step.caller)
        }
        What::Revert => {
            check_etag(step)?;
            leads[lead].go(Transition::RevertConversion)?;
            // Each of its orders has one action, so it is COMPLETE once that is finished.
            if leads[lead].action_done
                || leads[lead].work.is_finished()
                || leads[client].joins.is_joined
            {
                return Err("CONVERSION_SETTLED");
            }
            revert(leads, lead, client);
            Ok(())
        }
        What::Phone(_)
        | What::Email(..)
        | What::Deactivate
        | What::Reactivate
        | What::Convert
        | What::RunAction
        | What::Sale(_)
        | What::Work(_) => leads[lead].apply(step),
    }
}

fn check_etag(step: &Step) -> Result<(), &'static str> {
    match step.etag {
        Etag::Stale => Err("ETAG_MISMATCH"),
        Etag::None | Etag::Current => Ok(()),
    }
}

/// The value that a field gets, if it gets another one.
fn carried(old: &str, new: &str, named: bool) -> Option<(String, String)> {
    let changes = new != old && !new.is_empty() && (old.is_empty() || named);
    changes.then(|| (old.to_owned(), new.to_owned()))
}

fn join(
    leads: &mut [&mut Expected],
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

fn revert(leads: &mut [&mut Expected], lead: usize, client: usize) {
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
