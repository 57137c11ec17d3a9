//! The model of a sale, and what each call makes of it.

use leadsmith_proto::{LeadState, OpportunityOutcome};
use stateright::semantics::SequentialSpec;

use Answer::Rejected;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    Convert,
    /// Convert into the client.
    Join,
    Revert,
    Provision,
    /// Claim the services. The number tells the claims apart.
    Claim(usize),
    Report(usize),
    Release(usize),
    /// Run the action that ends the order.
    Call,
    Close(OpportunityOutcome),
    Reopen,
    GetLead,
    GetClient,
    GetOrder,
    GetOpportunity,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Versions of the lead and of the client.
    Lead(LeadState, i64),
    Joined(i64, i64),
    Client(i64),
    Order(i64),
    Opportunity(i64),
    Nothing,
    Rejected(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Services {
    Pending,
    Claimed(usize),
    Done,
}

/// The records of a sale, as far as this proof checks them.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub lead: LeadState,
    pub lead_version: i64,
    pub is_joined: bool,
    pub client_version: i64,
    pub services: Services,
    pub is_provisioned: bool,
    pub is_called: bool,
    pub order_version: i64,
    pub is_open: bool,
    pub opportunity_version: i64,
}

impl Model {
    fn convert(&mut self) -> Answer {
        self.lead = LeadState::Converted;
        self.lead_version += 1;
        Answer::Lead(self.lead, self.lead_version)
    }

    fn revert(&mut self) -> Answer {
        if self.lead != LeadState::Converted {
            return Rejected("LEAD_NOT_CONVERTED");
        }
        if self.services == Services::Done && self.is_provisioned && self.is_called {
            return Rejected("CONVERSION_SETTLED");
        }
        if self.is_joined {
            // The phone that the client got from the lead is taken back.
            self.client_version += 1;
            self.is_joined = false;
        }
        self.lead = LeadState::Open;
        self.lead_version += 1;
        Answer::Lead(self.lead, self.lead_version)
    }

    fn order(&mut self) -> Answer {
        self.order_version += 1;
        Answer::Order(self.order_version)
    }
}

impl SequentialSpec for Model {
    type Op = Op;
    type Ret = Answer;

    fn invoke(&mut self, op: &Op) -> Answer {
        let is_converted = self.lead == LeadState::Converted;
        match op {
            Op::Convert | Op::Join if is_converted => Rejected("LEAD_CONVERTED"),
            Op::Convert => self.convert(),
            Op::Join => {
                self.convert();
                self.is_joined = true;
                self.client_version += 1;
                Answer::Joined(self.lead_version, self.client_version)
            }
            Op::Revert => self.revert(),
            Op::Provision if self.is_provisioned => Rejected("ACTION_DONE"),
            Op::Provision if self.services != Services::Done => Rejected("ACTION_PREREQUISITE"),
            Op::Provision => {
                if !is_converted {
                    self.convert();
                }
                self.is_provisioned = true;
                self.order()
            }
            Op::Claim(number) if self.services == Services::Pending => {
                self.services = Services::Claimed(*number);
                self.order()
            }
            Op::Claim(_) => Answer::Nothing,
            Op::Report(number) | Op::Release(number)
                if self.services != Services::Claimed(*number) =>
            {
                Rejected("CLAIM_LOST")
            }
            Op::Report(_) => {
                self.services = Services::Done;
                self.order()
            }
            Op::Release(_) => {
                self.services = Services::Pending;
                self.order()
            }
            Op::Call if self.is_called => Rejected("ACTION_DONE"),
            Op::Call => {
                self.is_called = true;
                self.order()
            }
            Op::Close(_) if !self.is_open => Rejected("OPPORTUNITY_CLOSED"),
            Op::Reopen if self.is_open => Rejected("OPPORTUNITY_OPEN"),
            Op::Close(_) | Op::Reopen => {
                self.is_open = !self.is_open;
                self.opportunity_version += 1;
                Answer::Opportunity(self.opportunity_version)
            }
            Op::GetLead => Answer::Lead(self.lead, self.lead_version),
            Op::GetClient => Answer::Client(self.client_version),
            Op::GetOrder => Answer::Order(self.order_version),
            Op::GetOpportunity => Answer::Opportunity(self.opportunity_version),
        }
    }

    /// A claim may find nothing although there is something: another call is changing it.
    fn is_valid_step(&mut self, op: &Op, answer: &Answer) -> bool {
        matches!((op, answer), (Op::Claim(_), Answer::Nothing)) || self.invoke(op) == *answer
    }
}
