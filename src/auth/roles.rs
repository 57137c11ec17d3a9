//! What every RPC needs: one table. An RPC that is not in it is refused, and fails the tests.

use crate::wire::words::{on_the_wire, words};

words! {
    /// What a principal may do. Each may do everything the one before it may.
    pub enum Role {
        /// Look things up.
        Viewer = "VIEWER",
        /// Also work leads, opportunities and orders.
        Sales = "SALES",
        /// Everything.
        Admin = "ADMIN",
    }
}

on_the_wire!(Role, crate::wire::proto::Role, "ROLE_");

/// What an RPC needs of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: anybody may call.
    Open,
    /// A valid token, of any role.
    Principal,
    /// A valid token of this role or one above it.
    AtLeast(Role),
}

const OPEN: Access = Access::Open;
const ANYONE: Access = Access::Principal;
const VIEWER: Access = Access::AtLeast(Role::Viewer);
const SALES: Access = Access::AtLeast(Role::Sales);
const ADMIN: Access = Access::AtLeast(Role::Admin);

/// Every RPC the server answers.
pub const RPCS: &[(&str, Access)] = &[
    ("leadsmith.v1.LeadService/Create", SALES),
    ("leadsmith.v1.LeadService/Get", VIEWER),
    ("leadsmith.v1.LeadService/List", VIEWER),
    ("leadsmith.v1.LeadService/Search", VIEWER),
    ("leadsmith.v1.LeadService/Update", SALES),
    ("leadsmith.v1.LeadService/Deactivate", SALES),
    ("leadsmith.v1.LeadService/Reactivate", SALES),
    ("leadsmith.v1.LeadService/Convert", SALES),
    ("leadsmith.v1.LeadService/Erase", ADMIN),
    ("leadsmith.v1.LeadService/ListHistory", VIEWER),
    ("leadsmith.v1.ClientService/Get", VIEWER),
    ("leadsmith.v1.ClientService/List", VIEWER),
    ("leadsmith.v1.OpportunityService/Create", SALES),
    ("leadsmith.v1.OpportunityService/Get", VIEWER),
    ("leadsmith.v1.OpportunityService/List", VIEWER),
    ("leadsmith.v1.OrderService/Create", SALES),
    ("leadsmith.v1.OrderService/Get", VIEWER),
    ("leadsmith.v1.OrderService/List", VIEWER),
    ("leadsmith.v1.OrderService/RunAction", SALES),
    ("leadsmith.v1.OrderService/ListRuns", VIEWER),
    ("leadsmith.v1.AuthService/SignIn", OPEN),
    ("leadsmith.v1.AuthService/SignOut", ANYONE),
    ("leadsmith.v1.AuthService/WhoAmI", ANYONE),
    ("leadsmith.v1.AuthService/ChangePassword", ANYONE),
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

/// The table's row for an RPC, given as `package.Service/Method`.
pub fn lookup(rpc: &str) -> Option<(&'static str, Access)> {
    RPCS.iter().find(|(name, _)| *name == rpc).copied()
}
