//! `Debug` implementations that omit the secrets of messages. `build.rs` lists these messages.

use std::fmt;

use crate::{
    ChangePasswordRequest, ConvertLeadRequest, CreateKeyResponse, CreateOperatorRequest,
    EraseLeadRequest, ResetPasswordRequest, SignInRequest, SignInResponse, UpdateLeadRequest,
};

const HIDDEN: &str = "…";

impl fmt::Debug for UpdateLeadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpdateLeadRequest")
            .field("lead", &self.lead)
            .field("update_mask", &self.update_mask)
            .field("current_password", &HIDDEN)
            .field("request_id", &self.request_id)
            .field("validate_only", &self.validate_only)
            .finish()
    }
}

impl fmt::Debug for ConvertLeadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConvertLeadRequest")
            .field("id", &self.id)
            .field("etag", &self.etag)
            .field("request_id", &self.request_id)
            .field("validate_only", &self.validate_only)
            .field("client_id", &self.client_id)
            .field("overwrite", &self.overwrite)
            .field("current_password", &HIDDEN)
            .finish()
    }
}

impl fmt::Debug for EraseLeadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EraseLeadRequest")
            .field("id", &self.id)
            .field("etag", &self.etag)
            .field("current_password", &HIDDEN)
            .field("request_id", &self.request_id)
            .field("validate_only", &self.validate_only)
            .finish()
    }
}

impl fmt::Debug for SignInRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // People sometimes type their password into the username field, so the username is omitted too.
        f.debug_struct("SignInRequest")
            .field("username", &HIDDEN)
            .field("password", &HIDDEN)
            .field("validate_only", &self.validate_only)
            .finish()
    }
}

impl fmt::Debug for SignInResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignInResponse")
            .field("token", &HIDDEN)
            .field("expire_time", &self.expire_time)
            .field("operator", &self.operator)
            .finish()
    }
}

impl fmt::Debug for ChangePasswordRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChangePasswordRequest")
            .field("current_password", &HIDDEN)
            .field("new_password", &HIDDEN)
            .field("validate_only", &self.validate_only)
            .finish()
    }
}

impl fmt::Debug for CreateOperatorRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateOperatorRequest")
            .field("operator", &self.operator)
            .field("password", &HIDDEN)
            .field("request_id", &self.request_id)
            .field("validate_only", &self.validate_only)
            .finish()
    }
}

impl fmt::Debug for ResetPasswordRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResetPasswordRequest")
            .field("id", &self.id)
            .field("etag", &self.etag)
            .field("new_password", &HIDDEN)
            .field("request_id", &self.request_id)
            .field("validate_only", &self.validate_only)
            .finish()
    }
}

impl fmt::Debug for CreateKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateKeyResponse")
            .field("api_key", &HIDDEN)
            .field("key", &self.key)
            .field("service_account", &self.service_account)
            .finish()
    }
}
