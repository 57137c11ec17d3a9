//! Random calls by several callers, compared with a small model: in any order, the service returns and stores what
//! the model predicts.

mod joins;
mod sale;
mod work;

use leadsmith::core::role::Role;
use leadsmith::features::leads::model::{Effect, LeadState, Transition};
use leadsmith_proto::{self as proto, Lead, Opportunity};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tonic::Status;

use crate::harness::{Caller, Harness, PASSWORD, convert_into, reason, update};
use crate::{on_both, orders};
use joins::{Joins, Overwrite};
use sale::{ExpectedSale, SaleChange};
use work::{ExpectedWork, WorkChange};

/// The model of a lead.
#[derive(Clone, Debug)]
struct Expected {
    state: LeadState,
    version: u64,
    phone: String,
    email: String,
    action_done: bool,
    joins: Joins,
    sale: ExpectedSale,
    work: ExpectedWork,
}

#[derive(Clone, Copy, Debug)]
enum Etag {
    None,
    Current,
    Stale,
}

#[derive(Clone, Debug)]
enum What {
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
    /// A change of the lead's opportunity.
    Sale(SaleChange),
    /// A change of an action that workers do.
    Work(WorkChange),
}

impl Etag {
    /// The etag to send.
    fn of(self, current: &str) -> String {
        match self {
            Self::None => String::new(),
            Self::Current => current.to_owned(),
            Self::Stale => "\"4711\"".to_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Password {
    Absent,
    Right,
}

#[derive(Clone, Debug)]
struct Step {
    /// The caller: one of two operators and a service account.
    caller: usize,
    /// The index of the lead.
    lead: usize,
    etag: Etag,
    what: What,
}

const LEADS: usize = 2;
const SERVICE_ACCOUNT: usize = 2;

/// The index of the other lead.
fn other(lead: usize) -> usize {
    LEADS - 1 - lead
}

fn password() -> impl Strategy<Value = Password> {
    prop_oneof![Just(Password::Absent), Just(Password::Right)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let etag = prop_oneof![4 => Just(Etag::None), 2 => Just(Etag::Current), 1 => Just(Etag::Stale)];
    let what = prop_oneof![
        4 => (0..4_u8).prop_map(What::Phone),
        2 => (0..3_u8, password()).prop_map(|(email, password)| What::Email(email, password)),
        3 => Just(What::Deactivate),
        3 => Just(What::Reactivate),
        1 => Just(What::Convert),
        1 => Just(What::RunAction),
        3 => (joins::overwrites(), password()).prop_map(|(fields, password)| What::Join(fields, password)),
        3 => Just(What::Revert),
        6 => sale::changes().prop_map(What::Sale),
        9 => work::changes().prop_map(What::Work),
    ];
    let step = (0..3_usize, 0..LEADS, etag, what).prop_map(|(caller, lead, etag, what)| Step {
        caller,
        lead,
        etag,
        what,
    });
    prop::collection::vec(step, 1..24)
}

impl Expected {
    /// The model's result of a step that concerns one lead: success, or the reason of the error.
    fn apply(&mut self, step: &Step) -> Result<(), &'static str> {
        // RunAction takes the order's etag, which is not set here.
        let has_etag = !matches!(step.what, What::RunAction | What::Work(_));
        if has_etag && matches!(step.etag, Etag::Stale) {
            return Err("ETAG_MISMATCH");
        }
        match &step.what {
            What::Phone(phone) => {
                self.go(Transition::Update)?;
                self.set(|lead| &mut lead.phone, phone.to_string());
            }
            What::Email(email, password) => {
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
            What::Deactivate => self.transit(Transition::Deactivate)?,
            What::Reactivate => self.transit(Transition::Reactivate)?,
            What::Convert => self.transit(Transition::Convert)?,
            What::Join(..) | What::Revert => unreachable!("they concern two leads"),
            What::RunAction => {
                if self.action_done {
                    return Err("ACTION_DONE");
                }
                self.transit(Transition::ProvisionClient)?;
                self.action_done = true;
            }
            // The state of the lead does not matter.
            What::Sale(change) => self.sale.apply(change)?,
            What::Work(_) => self.work.expected?,
        }
        Ok(())
    }

    fn go(&self, transition: Transition) -> Result<Effect, &'static str> {
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
}

/// The third differs from the second only in letter case.
fn email_of(number: u8) -> String {
    ["ada@lead.example", "bob@lead.example", "BOB@lead.example"][usize::from(number)].to_owned()
}

async fn call(
    step: &Step,
    caller: &Caller,
    lead: &Lead,
    other: &str,
    order: &str,
    sale: &Opportunity,
) -> Result<(), Status> {
    let etag = step.etag.of(&lead.etag);
    let id = lead.id.clone();
    let mut leads = caller.leads();
    match &step.what {
        What::Phone(phone) => {
            let change = Lead {
                id,
                etag,
                phone: phone.to_string(),
                ..Lead::default()
            };
            leads.update(update(change, &["phone"])).await.map(|_| ())
        }
        What::Email(email, password) => {
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
            leads.update(request).await.map(|_| ())
        }
        What::Deactivate => {
            let request = proto::DeactivateLeadRequest {
                id,
                etag,
                ..Default::default()
            };
            leads.deactivate(request).await.map(|_| ())
        }
        What::Reactivate => {
            let request = proto::ReactivateLeadRequest {
                id,
                etag,
                ..Default::default()
            };
            leads.reactivate(request).await.map(|_| ())
        }
        What::Convert => {
            let request = proto::ConvertLeadRequest {
                id,
                etag,
                ..Default::default()
            };
            leads.convert(request).await.map(|_| ())
        }
        What::Join(fields, password) => {
            let mut request = convert_into(&id, other, fields.paths());
            request.etag = etag;
            if matches!(password, Password::Right) {
                request.current_password = PASSWORD.to_owned();
            }
            leads.convert(request).await.map(|_| ())
        }
        What::Revert => {
            let request = proto::RevertConversionRequest {
                id,
                etag,
                ..Default::default()
            };
            leads.revert_conversion(request).await.map(|_| ())
        }
        What::RunAction => caller.run(order, "provision-client").await.map(|_| ()),
        What::Sale(change) => {
            change
                .call(caller, &sale.id, step.etag.of(&sale.etag))
                .await
        }
        What::Work(_) => Ok(()),
    }
}

async fn play(h: &Harness, callers: &[Caller], steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut stored = Vec::new();
    for _ in 0..LEADS {
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
        let expected = Expected {
            state: LeadState::Open,
            version: 1,
            phone: String::new(),
            email: String::new(),
            action_done: false,
            joins: Joins::default(),
            sale: ExpectedSale::default(),
            work: ExpectedWork::new(work.id, key),
        };
        stored.push((lead.id, order.id, sale.id, expected));
    }
    for step in &steps {
        let (id, order, sale, _) = stored[step.lead].clone();
        let client = stored[other(step.lead)].0.clone();
        let before = h.viewer.get(&id).await;
        let sale_before = h.viewer.get_sale(&sale).await;
        let caller = &callers[step.caller];
        let answer = if let What::Work(change) = &step.what {
            let worker = (step.caller, caller);
            stored[step.lead]
                .3
                .work
                .call(*change, worker, &h.clock)
                .await
        } else {
            call(step, caller, &before, &client, &order, &sale_before).await
        };
        let refused = answer.err().map(|status| reason(&status));
        let mut leads: Vec<&mut Expected> = stored.iter_mut().map(|one| &mut one.3).collect();
        let expected = joins::apply(&mut leads, step);
        prop_assert_eq!(refused.as_deref(), expected.err(), "{:?}", step);
        let after = h.viewer.get(&id).await;
        let sale_after = h.viewer.get_sale(&sale).await;
        if refused.is_some() {
            prop_assert_eq!(
                (&after, &sale_after),
                (&before, &sale_before),
                "a refused call changes nothing: {:?}",
                step
            );
        }
        let sale = &stored[step.lead].3.sale;
        sale.check(&sale_before, &sale_after, after.state)?;
        let expected = &stored[step.lead].3.work;
        let work = orders::get(&h.viewer, &expected.order_id).await;
        expected.check(&work)?;
        for (index, (id, _, _, expected)) in stored.iter().enumerate() {
            let after = h.viewer.get(id).await;
            prop_assert_eq!(
                after.state().as_str_name(),
                format!("LEAD_STATE_{}", expected.state)
            );
            prop_assert_eq!(
                &after.etag,
                &format!("\"{}\"", expected.version),
                "{:?}",
                step
            );
            prop_assert_eq!(&after.phone, &expected.phone, "{:?}", step);
            prop_assert_eq!(&after.email, &expected.email, "{:?}", step);
            let client = match expected.joins.is_joined {
                true => &stored[other(index)].0,
                false => id,
            };
            let conversion = after.conversion.map(|by| by.client_id);
            let is_converted = expected.state == LeadState::Converted;
            prop_assert_eq!(conversion.as_ref(), is_converted.then_some(client));
        }
    }
    for (id, _, sale, expected) in &stored {
        for (id, entries, version) in [
            (id, h.viewer.history(id).await.len(), expected.version),
            (
                sale,
                h.viewer.sale_history(sale).await.len(),
                expected.sale.version,
            ),
            (
                &expected.work.order_id,
                orders::steps::history(&h.viewer, &expected.work.order_id)
                    .await
                    .len(),
                expected.work.version,
            ),
        ] {
            prop_assert_eq!(entries as u64, version, "one history row a change");
            let sql = format!(
                "SELECT count(*) FROM events WHERE subject_id = {}",
                literal(h, id)
            );
            prop_assert_eq!(h.count(&sql).await, i64::try_from(version).unwrap());
        }
    }
    Ok(())
}

/// A UUID in the database's format.
fn literal(h: &Harness, id: &str) -> String {
    match h.database.backend {
        crate::harness::Backend::Sqlite => format!("x'{}'", id.replace('-', "")),
        crate::harness::Backend::Postgres => format!("'{id}'"),
    }
}

on_both! {
    async fn random_calls_do_what_the_model_says(h: Harness) {
        let callers = [
            h.sales.clone(),
            h.admin.clone(),
            h.service_account("crm", Role::Sales).await,
        ];
        let handle = tokio::runtime::Handle::current();
        // A failure prints the minimal steps. They are sufficient as a seed, because nothing else is random.
        let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
        tokio::task::block_in_place(|| {
            let outcome = TestRunner::new(config)
                .run(&steps(), |steps| handle.block_on(play(&h, &callers, steps)));
            if let Err(failure) = outcome {
                panic!("{failure}");
            }
        });
    }
}
