//! The text of the demo: commands to paste, from top to bottom. A test runs every one of them.

use std::net::SocketAddr;

use uuid::Uuid;

use super::OPERATOR;

/// The RPC whose response does not end.
const WATCH: &str = "EventService/Watch";

/// The values that the printed commands contain.
pub(super) struct Walkthrough {
    pub token: String,
    pub password: String,
    /// The operator.
    pub operator_id: Uuid,
    /// The lead that is edited, deactivated, reactivated and converted manually.
    pub lead_id: Uuid,
    /// A lead that is converted into the client that this one becomes.
    pub other_lead_id: Uuid,
    /// An opportunity of this lead.
    pub opportunity_id: String,
    /// The order whose action converts another lead.
    pub order_id: String,
    /// The order that the demo's worker works on once it is signed.
    pub worked_order_id: String,
}

impl Walkthrough {
    /// The text that the demo prints, with one grpcurl command for each step.
    pub(super) fn text(&self, address: SocketAddr) -> String {
        let (lead, other) = (self.lead_id, self.other_lead_id);
        let (order, password, token) = (&self.order_id, &self.password, &self.token);
        let worked = &self.worked_order_id;
        let opportunity = &self.opportunity_id;
        let operator = self.operator_id;
        let mut text = format!(
            "Leadsmith demo is ready on {address}: a dozen leads in all states, with opportunities\n\
             and orders, in a temporary database. Ctrl-C ends it and everything in it.\n\n\
             You are the operator {OPERATOR}; your password is {password}\n\
             Paste these lines, top to bottom, into another terminal that has grpcurl:\n\n\
             export TOKEN={token}\n"
        );
        let steps = [
            ("Who am I?", "AuthService/WhoAmI", "{}".to_owned()),
            (
                "The open leads, by company",
                "LeadService/List",
                r#"{"order_by":"company"}"#.to_owned(),
            ),
            (
                "Search for a lead by a part of its name; accents make no difference",
                "LeadService/Search",
                r#"{"query":"goncalves"}"#.to_owned(),
            ),
            (
                "Get one lead",
                "LeadService/Get",
                format!(r#"{{"id":"{lead}"}}"#),
            ),
            (
                "Edit it: the phone and one custom field",
                "LeadService/Update",
                format!(
                    r#"{{"lead":{{"id":"{lead}","phone":"+351 21 000 000","custom_fields":{{"tier":"gold"}}}}}}"#
                ),
            ),
            (
                "Change its email: refused, because that needs your own password",
                "LeadService/Update",
                format!(r#"{{"lead":{{"id":"{lead}","email":"maria.g@aurora.example"}}}}"#),
            ),
            (
                "With the password it works",
                "LeadService/Update",
                format!(
                    r#"{{"lead":{{"id":"{lead}","email":"maria.g@aurora.example"}},"current_password":"{password}"}}"#
                ),
            ),
            (
                "Deactivate it",
                "LeadService/Deactivate",
                format!(r#"{{"id":"{lead}","reason":"On leave until spring"}}"#),
            ),
            (
                "It is gone from the list, but Search still finds it",
                "LeadService/Search",
                r#"{"query":"AURORA"}"#.to_owned(),
            ),
            (
                "And so do the open opportunities",
                "OpportunityService/List",
                "{}".to_owned(),
            ),
            (
                "Close its opportunity as lost",
                "OpportunityService/Close",
                format!(
                    r#"{{"id":"{opportunity}","outcome":"OPPORTUNITY_OUTCOME_LOST","reason":"No budget this year"}}"#
                ),
            ),
            (
                "Editing it is refused now: it would have to be reopened",
                "OpportunityService/Update",
                format!(r#"{{"opportunity":{{"id":"{opportunity}","probability":80}}}}"#),
            ),
            (
                "Reopen it: it is in the stage that it had",
                "OpportunityService/Reopen",
                format!(r#"{{"id":"{opportunity}"}}"#),
            ),
            (
                "And edit it",
                "OpportunityService/Update",
                format!(
                    r#"{{"opportunity":{{"id":"{opportunity}","stage":"OPPORTUNITY_STAGE_BUYING","probability":80}}}}"#
                ),
            ),
            (
                "The history of the opportunity",
                "OpportunityService/ListHistory",
                format!(r#"{{"id":"{opportunity}"}}"#),
            ),
            (
                "Converting the lead is refused now, and the error says why",
                "LeadService/Convert",
                format!(r#"{{"id":"{lead}"}}"#),
            ),
            (
                "Reactivate it",
                "LeadService/Reactivate",
                format!(r#"{{"id":"{lead}"}}"#),
            ),
            (
                "Convert it manually",
                "LeadService/Convert",
                format!(r#"{{"id":"{lead}"}}"#),
            ),
            (
                "The client has the lead's id",
                "ClientService/Get",
                format!(r#"{{"id":"{lead}"}}"#),
            ),
            (
                "Its history",
                "LeadService/ListHistory",
                format!(r#"{{"id":"{lead}"}}"#),
            ),
            (
                "Another lead is of the same customer: convert it into this client",
                "LeadService/Convert",
                format!(r#"{{"id":"{other}","client_id":"{lead}"}}"#),
            ),
            (
                "That was a mistake: revert it",
                "LeadService/RevertConversion",
                format!(r#"{{"id":"{other}"}}"#),
            ),
            (
                "Convert another lead by running its order's Provision Client action",
                "OrderService/RunAction",
                format!(r#"{{"order_id":"{order}","action":"provision-client"}}"#),
            ),
            (
                "The queues: `default`, which this order passed, and another one, with their steps and actions",
                "OrderQueueService/List",
                "{}".to_owned(),
            ),
            (
                "Comment on the order",
                "OrderService/Comment",
                format!(r#"{{"order_id":"{order}","text":"Delivered in spring"}}"#),
            ),
            (
                "The ledger of the order: the run of its action, and the comment",
                "OrderService/ListRuns",
                format!(r#"{{"order_id":"{order}"}}"#),
            ),
            (
                "Sign the contract of another order: now it waits for a worker, which is a part of this demo",
                "OrderService/RunAction",
                format!(r#"{{"order_id":"{worked}","action":"sign","note":"By both"}}"#),
            ),
            (
                "A second later: the worker has claimed and reported its action, and the lead is a client",
                "OrderService/ListRuns",
                format!(r#"{{"order_id":"{worked}"}}"#),
            ),
            (
                "A new lead with a phone number that is known, written in another way",
                "LeadService/Create",
                r#"{"lead":{"last_name":"Goncalves","phone":"00351-21000000"}}"#.to_owned(),
            ),
            (
                "Which leads look like the client? The new one, because of its phone number",
                "LeadService/ListDuplicates",
                format!(r#"{{"id":"{lead}"}}"#),
            ),
            (
                "The figures of the last 30 days; `leadsmith dashboard` shows them with bars",
                "DashboardService/Get",
                r#"{"time_zone":"Europe/Berlin"}"#.to_owned(),
            ),
            (
                "What have I done last? The newest changes by this operator, of all records",
                "EventService/List",
                format!(r#"{{"actor_id":"{operator}","page_size":3}}"#),
            ),
            (
                "Every change of this lead as a stream, which goes on: after 2 seconds grpcurl ends it, with an error",
                WATCH,
                format!(r#"{{"start":"WATCH_START_EARLIEST","lead_id":"{lead}"}}"#),
            ),
        ];
        for (title, rpc, body) in steps {
            let limit = match rpc {
                WATCH => "-max-time 2 ",
                _ => "",
            };
            text.push_str(&format!(
                "\n# {title}\n\
                 grpcurl -plaintext {limit}-H \"authorization: Bearer $TOKEN\" -d '{body}' {address} leadsmith.v1.{rpc}\n"
            ));
        }
        text
    }
}
