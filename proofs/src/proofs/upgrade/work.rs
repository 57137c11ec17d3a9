//! What callers do beside the life cycle of leads: work on orders by hand, which both versions know; and the work of
//! claimed actions, the reversal of conversions and joined leads, which only this version knows.

use leadsmith_proto as proto;
use prost::Message as _;
use uuid::Uuid;

use super::load::Load;
use crate::harness::requests::{self, INSTALL};

/// The EXTERNAL action that people do.
const SURVEY: &str = "survey";
/// How long actions are claimed, in seconds: longer than the proof.
const LEASE: i64 = 3_600;
/// How many actions a worker claims in one call at the end.
const MANY: i32 = 20;

impl Load {
    /// Creates an order with an EXTERNAL action and finishes that, or skips it and undoes the skip. Workers do not
    /// claim it meanwhile.
    pub(super) async fn do_by_hand(
        &self,
        lead_id: &str,
        number: usize,
        request_id: &mut impl FnMut() -> String,
    ) -> Result<(), String> {
        let order = self.create_order(SURVEY, lead_id, request_id).await?;
        if number.is_multiple_of(3) {
            let mut run = requests::run(&order, request_id());
            run.action = SURVEY.to_owned();
            let _: proto::RunActionResponse = self.change("OrderService/RunAction", run).await?;
            return Ok(());
        }
        let skip = requests::skip(&order, SURVEY, request_id());
        let _: proto::SkipActionResponse = self.change("OrderService/SkipAction", skip).await?;
        if number % 3 == 1 {
            let undo = requests::undo_skip(&order, SURVEY, request_id());
            let _: proto::UndoSkipResponse = self.change("OrderService/UndoSkip", undo).await?;
            self.seen().open.insert(order);
        }
        Ok(())
    }

    /// Creates an order with an EXTERNAL action that is left open.
    pub(super) async fn leave_to_workers(
        &self,
        lead_id: &str,
        request_id: &mut impl FnMut() -> String,
    ) -> Result<(), String> {
        let order = self.create_order(INSTALL, lead_id, request_id).await?;
        let comment = requests::comment(&order, "On Friday", request_id());
        let _: proto::CommentOrderResponse = self.change("OrderService/Comment", comment).await?;
        self.seen().open.insert(order);
        Ok(())
    }

    async fn create_order(
        &self,
        action: &str,
        lead_id: &str,
        request_id: &mut impl FnMut() -> String,
    ) -> Result<String, String> {
        let create = requests::order_to(action, lead_id, request_id());
        let created: proto::CreateOrderResponse =
            self.change("OrderService/Create", create).await?;
        Ok(created.order.ok_or("a response has no order")?.id)
    }

    /// Claims up to `max` actions, releases the first one and claims again, and reports them. Returns how many there
    /// were.
    pub(super) async fn work_as_worker(
        &self,
        max: i32,
        action: &str,
        request_id: &mut impl FnMut() -> String,
    ) -> Result<usize, String> {
        let claimed = self.claim(max, action, request_id).await?;
        if let Some(run) = claimed.first() {
            let release = requests::release(&run.id, request_id());
            let _: proto::ReleaseActionResponse =
                self.change("OrderService/ReleaseAction", release).await?;
        }
        let mut rest: Vec<proto::ClaimedRun> = claimed.into_iter().skip(1).collect();
        rest.extend(self.claim(max, action, request_id).await?);
        let count = rest.len();
        for run in rest {
            let report = requests::report(&run.id, request_id());
            let _: proto::ReportActionResponse =
                self.change("OrderService/ReportAction", report).await?;
            if !self.seen().reported.insert(run.order_id.clone()) {
                self.broke(format!(
                    "{action} of order {} was given twice",
                    run.order_id
                ));
            }
        }
        Ok(count)
    }

    async fn claim(
        &self,
        max: i32,
        action: &str,
        request_id: &mut impl FnMut() -> String,
    ) -> Result<Vec<proto::ClaimedRun>, String> {
        let claim = requests::claim_of(action, max, LEASE, request_id());
        let claimed: proto::ClaimActionsResponse =
            self.change("OrderService/ClaimActions", claim).await?;
        Ok(claimed.runs)
    }

    /// Reverts a conversion, the oldest one first, which the previous version may have made, and converts the lead again.
    pub(super) async fn revert_and_convert(
        &self,
        request_id: &mut impl FnMut() -> String,
    ) -> Result<(), String> {
        let Some(id) = self.seen().revertible.pop_front() else {
            return Ok(());
        };
        self.revert(&id, request_id).await?;
        let convert = requests::convert(&id, request_id());
        let converted: proto::ConvertLeadResponse =
            self.change("LeadService/Convert", convert).await?;
        self.look(&self.note(converted.lead)?).await
    }

    /// Joins a new lead to a new client, separates them, and joins them again.
    pub(super) async fn join_and_revert(
        &self,
        name: &str,
        request_id: &mut impl FnMut() -> String,
    ) -> Result<(), String> {
        let client = self
            .create_lead(&format!("{name}, client"), request_id)
            .await?;
        let convert = requests::convert(&client, request_id());
        let converted: proto::ConvertLeadResponse =
            self.change("LeadService/Convert", convert).await?;
        let before = self.note(converted.lead)?;
        let lead = self
            .create_lead(&format!("{name}, joined"), request_id)
            .await?;
        let update = requests::update(&lead, "+351 21 000 0000", request_id());
        let updated: proto::UpdateLeadResponse = self.change("LeadService/Update", update).await?;
        let phone = self.note(updated.lead)?.phone;
        self.join(&lead, &client, &phone, request_id).await?;
        self.revert(&lead, request_id).await?;
        self.read_client(&client, &before.phone).await?;
        self.join(&lead, &client, &phone, request_id).await?;
        self.seen().joined += 1;
        Ok(())
    }

    async fn create_lead(
        &self,
        name: &str,
        request_id: &mut impl FnMut() -> String,
    ) -> Result<String, String> {
        let create = requests::create(name, request_id());
        let created: proto::CreateLeadResponse = self.change("LeadService/Create", create).await?;
        Ok(self.note(created.lead)?.id)
    }

    async fn join(
        &self,
        lead: &str,
        client: &str,
        phone: &str,
        request_id: &mut impl FnMut() -> String,
    ) -> Result<(), String> {
        let join = requests::convert_into(lead, client, request_id());
        let joined: proto::ConvertLeadResponse = self.change("LeadService/Convert", join).await?;
        self.look(&self.note(joined.lead)?).await?;
        self.read_client(client, phone).await
    }

    async fn revert(
        &self,
        id: &str,
        request_id: &mut impl FnMut() -> String,
    ) -> Result<(), String> {
        let revert = requests::revert_conversion(id, request_id());
        let reverted: proto::RevertConversionResponse =
            self.change("LeadService/RevertConversion", revert).await?;
        self.look(&self.note(reverted.lead)?).await?;
        self.seen().reverted += 1;
        Ok(())
    }

    /// Reads a client that a call about another lead has changed. It must have this phone.
    async fn read_client(&self, id: &str, phone: &str) -> Result<(), String> {
        let get = proto::GetLeadRequest { id: id.to_owned() };
        let response = self.call("LeadService/Get", &get.encode_to_vec()).await?;
        let found = proto::GetLeadResponse::decode(response.as_slice());
        let found = self.note(found.map_err(|error| error.to_string())?.lead)?;
        if found.phone != phone {
            self.broke(format!(
                "a client has the phone {:?}, not {phone:?}",
                found.phone
            ));
        }
        Ok(())
    }

    /// Does the work that was left open, after the callers have ended.
    pub(super) async fn finish_work(&self, random: &mut fastrand::Rng) {
        let mut request_id = || Uuid::from_u128(random.u128(..)).to_string();
        for action in [INSTALL, SURVEY] {
            loop {
                match self.work_as_worker(MANY, action, &mut request_id).await {
                    Ok(0) => break,
                    Ok(_) => {}
                    Err(why) => return self.broke(why),
                }
            }
        }
    }
}
