//! The model of a lead, and the calls that change it.

use leadsmith::features::leads::model::{Effect, Transition};
use leadsmith_proto as proto;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tonic::Status;

use super::joins::{self, Joins, Overwrite};
use super::order::ExpectedOrders;
use super::sale::ExpectedSale;
use super::work::ExpectedWork;
use super::{Etag, Lead, LeadState, SERVICE_ACCOUNT, Step};
use crate::harness::{Caller, Harness, PASSWORD, convert_into, update};

/// The model of a lead, with everything that belongs to it.
#[derive(Clone, Debug)]
pub struct Expected {
    pub id: String,
    pub state: LeadState,
    pub version: u64,
    pub phone: String,
    pub email: String,
    /// Its order with the action that provisions the client, and whether that is DONE.
    pub order: String,
    pub action_done: bool,
    pub joins: Joins,
    pub sale: ExpectedSale,
    pub work: ExpectedWork,
    pub orders: ExpectedOrders,
}

#[derive(Clone, Debug)]
pub enum LeadChange {
    Phone(u8),
    /// An email, which may be the current one, and the kind of password.
    Email(u8, Password),
    Deactivate,
    Reactivate,
    Convert,
    RunAction,
    /// Convert it into the other lead, which may be a client.
    Join(Overwrite, Password),
    Revert,
}

#[derive(Clone, Copy, Debug)]
pub enum Password {
    Absent,
    Right,
}

fn password() -> impl Strategy<Value = Password> {
    prop_oneof![Just(Password::Absent), Just(Password::Right)]
}

pub fn changes() -> impl Strategy<Value = LeadChange> {
    prop_oneof![
        4 => (0..4_u8).prop_map(LeadChange::Phone),
        2 => (0..3_u8, password()).prop_map(|(email, password)| LeadChange::Email(email, password)),
        3 => Just(LeadChange::Deactivate),
        3 => Just(LeadChange::Reactivate),
        1 => Just(LeadChange::Convert),
        1 => Just(LeadChange::RunAction),
        3 => (joins::overwrites(), password())
            .prop_map(|(fields, password)| LeadChange::Join(fields, password)),
        3 => Just(LeadChange::Revert),
    ]
}

/// The third differs from the second only in letter case.
fn email_of(number: u8) -> String {
    ["ada@lead.example", "bob@lead.example", "BOB@lead.example"][usize::from(number)].to_owned()
}

impl Expected {
    /// Creates a lead with its orders and its opportunity.
    pub async fn create(h: &Harness) -> Self {
        let lead = h.sales.create_lead("Model").await;
        let order = h.sales.create_order(&lead.id, Vec::new()).await;
        let sale = h.sales.create_sale(&lead.id, "Model").await;
        // No other order has an action of this key.
        let key = format!("work-{}", lead.id);
        let action = proto::OrderAction {
            key: key.clone(),
            r#type: proto::ActionType::External.into(),
            ..Default::default()
        };
        let work = h.sales.create_order(&lead.id, vec![action]).await;
        Self {
            id: lead.id,
            state: LeadState::Open,
            version: 1,
            phone: String::new(),
            email: String::new(),
            order: order.id,
            action_done: false,
            joins: Joins::default(),
            sale: ExpectedSale::new(sale.id),
            work: ExpectedWork::new(work.id, key),
            orders: ExpectedOrders::default(),
        }
    }

    /// The model's result of a change that concerns one lead: success, or the reason of the error.
    pub fn apply(&mut self, step: &Step, change: &LeadChange) -> Result<(), &'static str> {
        // RunAction takes the order's etag, which is not set here.
        if !matches!(change, LeadChange::RunAction) {
            step.etag.check()?;
        }
        match change {
            LeadChange::Phone(phone) => {
                self.go(Transition::Update)?;
                self.set(|lead| &mut lead.phone, phone.to_string());
            }
            LeadChange::Email(email, password) => {
                self.go(Transition::Update)?;
                let email = email_of(*email);
                if email.to_lowercase() != self.email.to_lowercase() {
                    if step.caller == SERVICE_ACCOUNT {
                        return Err("OPERATOR_REQUIRED");
                    }
                    if matches!(password, Password::Absent) {
                        return Err("CURRENT_PASSWORD_REQUIRED");
                    }
                }
                self.set(|lead| &mut lead.email, email);
            }
            LeadChange::Deactivate => self.transit(Transition::Deactivate)?,
            LeadChange::Reactivate => self.transit(Transition::Reactivate)?,
            LeadChange::Convert => self.transit(Transition::Convert)?,
            LeadChange::Join(..) | LeadChange::Revert => unreachable!("they concern two leads"),
            LeadChange::RunAction => {
                if self.action_done {
                    return Err("ACTION_DONE");
                }
                self.transit(Transition::ProvisionClient)?;
                self.action_done = true;
            }
        }
        Ok(())
    }

    pub fn go(&self, transition: Transition) -> Result<Effect, &'static str> {
        match (self.state.effect(false, transition), self.state) {
            (Effect::Refused, _) if transition == Transition::RevertConversion => {
                Err("LEAD_NOT_CONVERTED")
            }
            (Effect::Refused, LeadState::Open) => Err("LEAD_NOT_DEACTIVATED"),
            (Effect::Refused, LeadState::Deactivated) => Err("LEAD_DEACTIVATED"),
            (Effect::Refused, LeadState::Converted) => Err("LEAD_CONVERTED"),
            (effect, _) => Ok(effect),
        }
    }

    fn transit(&mut self, transition: Transition) -> Result<(), &'static str> {
        if let Effect::To(state) = self.go(transition)? {
            self.state = state;
            self.version += 1;
        }
        Ok(())
    }

    /// Setting the current value changes nothing.
    fn set(&mut self, field: fn(&mut Self) -> &mut String, value: String) {
        if *field(self) != value {
            *field(self) = value;
            self.version += 1;
        }
    }

    /// Whether one of its orders is COMPLETE.
    pub fn has_complete_order(&self) -> bool {
        // The first two have one action each.
        self.action_done || self.work.is_finished() || self.orders.is_any_complete()
    }

    /// Compares the stored lead with the model. `other` is the id of the other lead.
    pub fn check(&self, stored: &Lead, other: &str, step: &Step) -> Result<(), TestCaseError> {
        let state = format!("LEAD_STATE_{}", self.state);
        prop_assert_eq!(stored.state().as_str_name(), state);
        let etag = format!("\"{}\"", self.version);
        prop_assert_eq!(&stored.etag, &etag, "{:?}", step);
        prop_assert_eq!(&stored.phone, &self.phone, "{:?}", step);
        prop_assert_eq!(&stored.email, &self.email, "{:?}", step);
        let client = match self.joins.is_joined {
            true => other,
            false => &self.id,
        };
        let conversion = stored.conversion.as_ref();
        let conversion = conversion.map(|by| by.client_id.as_str());
        let is_converted = self.state == LeadState::Converted;
        prop_assert_eq!(conversion, is_converted.then_some(client));
        Ok(())
    }
}

impl LeadChange {
    /// Makes the change of the stored lead. The other records are the client that it may be joined to, and its order,
    /// by their ids.
    pub async fn call(
        &self,
        caller: &Caller,
        etag: Etag,
        (lead, client, order): (&Lead, &str, &str),
    ) -> Result<(), Status> {
        let etag = etag.of(&lead.etag);
        let id = lead.id.clone();
        let mut leads = caller.leads();
        match self {
            Self::Phone(phone) => {
                let change = Lead {
                    id,
                    etag,
                    phone: phone.to_string(),
                    ..Lead::default()
                };
                leads.update(update(change, &["phone"])).await?;
            }
            Self::Email(email, password) => {
                let change = Lead {
                    id,
                    etag,
                    email: email_of(*email),
                    ..Lead::default()
                };
                let mut request = update(change, &["email"]);
                if matches!(password, Password::Right) {
                    request.current_password = PASSWORD.to_owned();
                }
                leads.update(request).await?;
            }
            Self::Deactivate => {
                let request = proto::DeactivateLeadRequest {
                    id,
                    etag,
                    ..Default::default()
                };
                leads.deactivate(request).await?;
            }
            Self::Reactivate => {
                let request = proto::ReactivateLeadRequest {
                    id,
                    etag,
                    ..Default::default()
                };
                leads.reactivate(request).await?;
            }
            Self::Convert => {
                let request = proto::ConvertLeadRequest {
                    id,
                    etag,
                    ..Default::default()
                };
                leads.convert(request).await?;
            }
            Self::Join(fields, password) => {
                let mut request = convert_into(&id, client, fields.paths());
                request.etag = etag;
                if matches!(password, Password::Right) {
                    request.current_password = PASSWORD.to_owned();
                }
                leads.convert(request).await?;
            }
            Self::Revert => {
                let request = proto::RevertConversionRequest {
                    id,
                    etag,
                    ..Default::default()
                };
                leads.revert_conversion(request).await?;
            }
            Self::RunAction => {
                caller.run(order, "provision-client").await?;
            }
        }
        Ok(())
    }
}
