//! The authorisation policy: one table of every RPC and the access it requires.
//!
//! An RPC that is missing from the table is refused, and fails the tests. The table depends on no feature, so that
//! the policy can be reviewed in one place.

use std::collections::BTreeSet;

use crate::core::role::Role;

/// The access that an RPC requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// No credential: anyone may call.
    Open,
    /// A valid credential of any role.
    Principal,
    /// A valid credential of this role or a higher one.
    AtLeast(Role),
}

const OPEN: Access = Access::Open;
const AUTHENTICATED: Access = Access::Principal;
const VIEWER: Access = Access::AtLeast(Role::Viewer);
const SALES: Access = Access::AtLeast(Role::Sales);
const ADMIN: Access = Access::AtLeast(Role::Admin);

/// The RPC whose response is a stream without an end.
pub const WATCH: &str = "leadsmith.v1.EventService/Watch";

/// Every RPC that the server serves.
pub const RPCS: &[(&str, Access)] = &[
    ("leadsmith.v1.LeadService/Create", SALES),
    ("leadsmith.v1.LeadService/Get", VIEWER),
    ("leadsmith.v1.LeadService/BatchGet", VIEWER),
    ("leadsmith.v1.LeadService/List", VIEWER),
    ("leadsmith.v1.LeadService/Search", VIEWER),
    ("leadsmith.v1.LeadService/Update", SALES),
    ("leadsmith.v1.LeadService/Deactivate", SALES),
    ("leadsmith.v1.LeadService/Reactivate", SALES),
    ("leadsmith.v1.LeadService/Convert", SALES),
    ("leadsmith.v1.LeadService/RevertConversion", SALES),
    ("leadsmith.v1.LeadService/Erase", ADMIN),
    ("leadsmith.v1.LeadService/ListDuplicates", VIEWER),
    ("leadsmith.v1.LeadService/ListHistory", VIEWER),
    ("leadsmith.v1.ClientService/Get", VIEWER),
    ("leadsmith.v1.ClientService/List", VIEWER),
    ("leadsmith.v1.OpportunityService/Create", SALES),
    ("leadsmith.v1.OpportunityService/Get", VIEWER),
    ("leadsmith.v1.OpportunityService/List", VIEWER),
    ("leadsmith.v1.OpportunityService/Update", SALES),
    ("leadsmith.v1.OpportunityService/Close", SALES),
    ("leadsmith.v1.OpportunityService/Reopen", SALES),
    ("leadsmith.v1.OpportunityService/ListHistory", VIEWER),
    ("leadsmith.v1.OrderService/Create", SALES),
    ("leadsmith.v1.OrderService/Get", VIEWER),
    ("leadsmith.v1.OrderService/List", VIEWER),
    ("leadsmith.v1.OrderService/RunAction", SALES),
    ("leadsmith.v1.OrderService/ClaimActions", SALES),
    ("leadsmith.v1.OrderService/ReportAction", SALES),
    ("leadsmith.v1.OrderService/ReleaseAction", SALES),
    ("leadsmith.v1.OrderService/SkipAction", SALES),
    ("leadsmith.v1.OrderService/UndoSkip", SALES),
    ("leadsmith.v1.OrderService/Move", SALES),
    ("leadsmith.v1.OrderService/Cancel", SALES),
    ("leadsmith.v1.OrderService/Comment", SALES),
    ("leadsmith.v1.OrderService/ListRuns", VIEWER),
    ("leadsmith.v1.OrderService/ListHistory", VIEWER),
    // A queue decides how everybody's later orders are fulfilled, so only an ADMIN changes it.
    ("leadsmith.v1.OrderQueueService/Create", ADMIN),
    ("leadsmith.v1.OrderQueueService/Get", VIEWER),
    ("leadsmith.v1.OrderQueueService/List", VIEWER),
    ("leadsmith.v1.OrderQueueService/Update", ADMIN),
    ("leadsmith.v1.OrderQueueService/Archive", ADMIN),
    ("leadsmith.v1.OrderQueueService/Unarchive", ADMIN),
    ("leadsmith.v1.OrderQueueService/ListHistory", VIEWER),
    // Events of operators and service accounts are left out for other roles than ADMIN.
    (WATCH, VIEWER),
    ("leadsmith.v1.EventService/List", VIEWER),
    ("leadsmith.v1.DashboardService/Get", VIEWER),
    ("leadsmith.v1.AuthService/SignIn", OPEN),
    ("leadsmith.v1.AuthService/SignOut", AUTHENTICATED),
    ("leadsmith.v1.AuthService/WhoAmI", AUTHENTICATED),
    ("leadsmith.v1.AuthService/ChangePassword", AUTHENTICATED),
    ("leadsmith.v1.AuthService/ListSessions", AUTHENTICATED),
    ("leadsmith.v1.AuthService/EndSession", AUTHENTICATED),
    ("leadsmith.v1.AuthService/EndOtherSessions", AUTHENTICATED),
    ("leadsmith.v1.OperatorService/Create", ADMIN),
    ("leadsmith.v1.OperatorService/Get", VIEWER),
    ("leadsmith.v1.OperatorService/List", VIEWER),
    ("leadsmith.v1.OperatorService/Update", ADMIN),
    ("leadsmith.v1.OperatorService/Disable", ADMIN),
    ("leadsmith.v1.OperatorService/Enable", ADMIN),
    ("leadsmith.v1.OperatorService/ResetPassword", ADMIN),
    ("leadsmith.v1.OperatorService/Unlock", ADMIN),
    ("leadsmith.v1.OperatorService/ListSessions", ADMIN),
    ("leadsmith.v1.OperatorService/EndSessions", ADMIN),
    ("leadsmith.v1.OperatorService/ListHistory", ADMIN),
    ("leadsmith.v1.ServiceAccountService/Create", ADMIN),
    ("leadsmith.v1.ServiceAccountService/Get", ADMIN),
    ("leadsmith.v1.ServiceAccountService/List", ADMIN),
    ("leadsmith.v1.ServiceAccountService/Update", ADMIN),
    ("leadsmith.v1.ServiceAccountService/Disable", ADMIN),
    ("leadsmith.v1.ServiceAccountService/Enable", ADMIN),
    ("leadsmith.v1.ServiceAccountService/CreateKey", ADMIN),
    ("leadsmith.v1.ServiceAccountService/ListKeys", ADMIN),
    ("leadsmith.v1.ServiceAccountService/RevokeKey", ADMIN),
    ("leadsmith.v1.ServiceAccountService/ListHistory", ADMIN),
    ("grpc.health.v1.Health/Check", OPEN),
    ("grpc.health.v1.Health/Watch", OPEN),
    (
        "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        OPEN,
    ),
    (
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        OPEN,
    ),
];

/// The place in the table of an RPC, which is given as `package.Service/Method`.
pub fn find(rpc: &str) -> Option<usize> {
    RPCS.iter().position(|(name, _)| *name == rpc)
}

/// Whether an RPC only reads: its name begins with `Get` or `List`, or is one of a few others.
pub fn is_read(rpc: &str) -> bool {
    let (_, method) = rpc.rsplit_once('/').unwrap_or_default();
    method.starts_with("Get")
        || method.starts_with("List")
        || [
            "BatchGet",
            "Search",
            "WhoAmI",
            "Check",
            "Watch",
            "ServerReflectionInfo",
        ]
        .contains(&method)
}

/// The full names of the Leadsmith services in the table.
pub fn services() -> BTreeSet<&'static str> {
    let names = RPCS.iter().filter_map(|(rpc, _)| rpc.split_once('/'));
    let services = names.map(|(service, _)| service);
    services
        .filter(|service| service.starts_with("leadsmith."))
        .collect()
}
