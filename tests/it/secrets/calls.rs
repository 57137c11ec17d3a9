//! Calls with secrets in them that succeed, and that fail in every way. The response of each is recorded
//! for the search.

use leadsmith_proto::watch_events_request::Begin;
use leadsmith_proto::watch_events_response::Item;
use leadsmith_proto::{self as proto, Lead};
use tonic::Status;
use tonic::transport::Channel;
use uuid::Uuid;

use super::search::Search;
use crate::harness::{Caller, convert_into, update};
use crate::raw;

async fn sign_in(
    channel: &Channel,
    username: &str,
    password: &str,
) -> Result<proto::SignInResponse, Status> {
    let caller = Caller {
        id: Uuid::nil(),
        token: String::new(),
        channel: channel.clone(),
    };
    let request = proto::SignInRequest {
        username: username.into(),
        password: password.into(),
        ..Default::default()
    };
    let answer = caller.auth().sign_in(request).await?;
    Ok(answer.into_inner())
}

/// An update of the email with a current password.
pub fn email(lead: &Lead, to: &str, password: &str) -> proto::UpdateLeadRequest {
    let change = Lead {
        id: lead.id.clone(),
        email: to.into(),
        ..Lead::default()
    };
    proto::UpdateLeadRequest {
        current_password: password.into(),
        ..update(change, &["email"])
    }
}

pub async fn send(caller: &Caller, request: proto::UpdateLeadRequest) -> Result<Lead, Status> {
    let answer = caller.leads().update(request).await?;
    Ok(answer.into_inner().lead.unwrap())
}

/// Sign-ins that succeed and that fail.
pub async fn signing_in(search: &mut Search, channel: &Channel, password: &str) -> [Caller; 2] {
    let mut callers = Vec::new();
    for name in ["a session's token", "another session's token"] {
        let answer = sign_in(channel, "ada", password).await;
        let token = search.answer("signing in", answer).unwrap().token;
        search.hide_token(name, &token);
        callers.push(Caller {
            id: Uuid::nil(),
            token,
            channel: channel.clone(),
        });
    }
    let wrong = search.secret("a wrong password");
    search.refusal("SIGN_IN_FAILED", sign_in(channel, "ada", &wrong).await);
    let typed = search.secret("a password typed as username");
    search.refusal("SIGN_IN_FAILED", sign_in(channel, &typed, &wrong).await);
    search.refusal(
        "SIGN_IN_FAILED",
        sign_in(channel, &typed.to_uppercase(), &typed).await,
    );
    let long = search.secret("a long password").repeat(40);
    search.refusal("FIELD_INVALID", sign_in(channel, "", &wrong).await);
    search.refusal("FIELD_INVALID", sign_in(channel, "ada", &long).await);
    search.refusal("FIELD_INVALID", sign_in(channel, &long, &wrong).await);
    search.refusal("FIELD_INVALID", sign_in(channel, &long, "").await);
    let huge = search
        .secret("a password in a message too large")
        .repeat(3000);
    search.refusal("MESSAGE_TOO_LARGE", sign_in(channel, "ada", &huge).await);
    callers.try_into().ok().unwrap()
}

/// Malformed messages with a password in them.
pub async fn malformed(search: &mut Search, channel: &Channel, token: &str) {
    let secret = search.secret("a password in a malformed message");
    let length = u8::try_from(secret.len()).unwrap();
    let bearer = format!("Bearer {token}");
    for (rpc, field) in [
        ("AuthService/SignIn", 0x12),
        ("AuthService/ChangePassword", 0x0a),
        ("LeadService/Update", 0x1a),
        ("LeadService/Convert", 0x3a),
    ] {
        let right = [&[field, length], secret.as_bytes()].concat();
        let not_text = [&[field, length + 1], secret.as_bytes(), &[0xff]].concat();
        for body in [
            [right.as_slice(), &[0xff, 0xff]].concat(),
            [right.as_slice(), &[0x0a, 0x7f]].concat(),
            not_text,
            right[..right.len() - 1].to_vec(),
        ] {
            let rpc = format!("leadsmith.v1.{rpc}");
            let answer = raw::call(channel, &rpc, Some(bearer.as_bytes()), body).await;
            search.refusal("MESSAGE_MALFORMED", answer);
        }
    }
}

/// Invalid and revoked tokens, and an unknown RPC.
pub async fn strangers(search: &mut Search, channel: &Channel, token: &str, revoked: &str) {
    let rpc = "leadsmith.v1.AuthService/WhoAmI";
    let secret = search.secret("what is no token");
    let padded = format!("{secret}{}", "A".repeat(43 - secret.len()));
    for header in [
        secret.clone(),
        format!("Basic {secret}"),
        format!("Bearer {secret}"),
        format!("Bearer lss_{padded}"),
        format!("Bearer lsk_{padded}"),
        format!("Bearer {revoked}"),
    ] {
        let answer = raw::call(channel, rpc, Some(header.as_bytes()), Vec::new()).await;
        search.refusal("TOKEN_INVALID", answer);
    }
    let path = search.secret("what is no RPC");
    let header = format!("Bearer {token}");
    let answer = raw::call(channel, &path, Some(header.as_bytes()), Vec::new()).await;
    search.refusal("METHOD_UNKNOWN", answer);
}

/// Updates with a correct and with a wrong password.
pub async fn updating(search: &mut Search, ada: &Caller, password: &str) {
    let lead = search
        .answer(
            "creating",
            ada.create(Lead {
                last_name: "Lovelace".into(),
                email: "first@example.com".into(),
                ..Lead::default()
            })
            .await,
        )
        .unwrap();

    let key = "0193a5c4-5f2e-7c3a-9d41-2f6b8a1c0e57";
    let mut right = email(&lead, "second@example.com", password);
    right.request_id = key.into();
    let first = search
        .answer("updating", send(ada, right.clone()).await)
        .unwrap();
    assert_eq!(first.email, "second@example.com");
    let again = search
        .answer("repeating", send(ada, right.clone()).await)
        .unwrap();
    assert_eq!(again, first);
    right.current_password = search.secret("another password under a request id");
    search.answer("repeating", send(ada, right).await).unwrap();

    let mut checked = email(&lead, "checked@example.com", password);
    checked.validate_only = true;
    search.answer("checking", send(ada, checked).await).unwrap();

    let ignored = search.secret("a password that is not asked for");
    let same = email(&lead, " SECOND@example.com ", &ignored);
    search.answer("updating", send(ada, same).await).unwrap();

    let wrong = search.secret("a wrong current password");
    let mut request = email(&lead, "third@example.com", &wrong);
    request.request_id = "0193a5c4-5f2e-7c3a-9d41-2f6b8a1c0e58".into();
    search.refusal("CURRENT_PASSWORD_INVALID", send(ada, request).await);

    let early = search.secret("a password of a request refused for something else");
    let mut request = email(&lead, "third", &early);
    search.refusal("FIELD_INVALID", send(ada, request).await);
    request = email(&lead, "third@example.com", &early);
    request.request_id = "nonsense".into();
    search.refusal("FIELD_INVALID", send(ada, request).await);
    request = email(&lead, "third@example.com", &early);
    request.update_mask = Some(prost_types::FieldMask {
        paths: vec!["email".into(), "current_password".into()],
    });
    search.refusal("FIELD_INVALID", send(ada, request).await);
    request = email(&lead, "third@example.com", &early);
    request.lead.as_mut().unwrap().etag = lead.etag.clone();
    search.refusal("ETAG_MISMATCH", send(ada, request).await);
    let nobody = Lead {
        id: "0193a5c4-5f2e-7c3a-9d41-2f6b8a1c0e59".into(),
        ..Lead::default()
    };
    search.refusal(
        "LEAD_NOT_FOUND",
        send(ada, email(&nobody, "x@example.com", &early)).await,
    );
    request = email(&lead, "third@example.com", &early.repeat(40));
    let answer = send(ada, request).await;
    search.answer("updating", answer).unwrap_err();
    search
        .answer("history", Ok(ada.history(&lead.id).await))
        .unwrap();
}

/// Erasures with a correct and with a wrong password.
pub async fn erasing(search: &mut Search, ada: &Caller, password: &str) {
    let lead = ada.create_lead("Forgotten").await;
    let erase = async |current: &str| {
        let request = proto::EraseLeadRequest {
            id: lead.id.clone(),
            current_password: current.into(),
            request_id: "0193a5c4-5f2e-7c3a-9d41-2f6b8a1c0e60".into(),
            ..Default::default()
        };
        ada.leads().erase(request).await
    };
    let wrong = search.secret("a wrong password for erasing");
    search.refusal("CURRENT_PASSWORD_INVALID", erase(&wrong).await);
    search.answer("erasing", erase(password).await).unwrap();
    search.answer("repeating", erase(&wrong).await).unwrap();
}

/// Conversions that overwrite a client's email, with a correct and with a wrong password.
pub async fn joining(search: &mut Search, ada: &Caller, password: &str) {
    let with_email = |email: &str| Lead {
        last_name: "Joined".into(),
        email: email.into(),
        ..Lead::default()
    };
    let client = ada.create(with_email("client@example.com")).await.unwrap();
    ada.convert(&client.id).await.unwrap();
    let lead = ada.create(with_email("lead@example.com")).await.unwrap();
    let join = async |current: &str| {
        let request = proto::ConvertLeadRequest {
            current_password: current.into(),
            request_id: "0193a5c4-5f2e-7c3a-9d41-2f6b8a1c0e61".into(),
            ..convert_into(&lead.id, &client.id, &["email"])
        };
        ada.leads().convert(request).await
    };
    let wrong = search.secret("a wrong password for joining");
    search.refusal("CURRENT_PASSWORD_INVALID", join(&wrong).await);
    search.answer("joining", join(password).await).unwrap();
    search.answer("repeating", join(&wrong).await).unwrap();
    // So many wrong passwords would keep her from the calls that follow.
    let me = ada
        .auth()
        .who_am_i(proto::WhoAmIRequest {})
        .await
        .unwrap()
        .into_inner();
    let unlock = proto::UnlockOperatorRequest {
        id: me.principal.unwrap().id,
        ..Default::default()
    };
    search
        .answer("unlocking", ada.operators().unlock(unlock).await)
        .unwrap();
}

/// Changes of the password that succeed and that fail. Returns the new password.
pub async fn changing(search: &mut Search, ada: &Caller, password: &str) -> String {
    let change = async |current: &str, new: &str| {
        let request = proto::ChangePasswordRequest {
            current_password: current.into(),
            new_password: new.into(),
            ..Default::default()
        };
        ada.auth().change_password(request).await
    };
    let new = search.secret("a new password");
    let wrong = search.secret("a wrong password for a change");
    let short = search.secret("a short password")[..11].to_owned();
    search.hide("a short password", &short);
    let long = search.secret("a long new password").repeat(40);
    search.refusal("CURRENT_PASSWORD_INVALID", change(&wrong, &new).await);
    search.refusal("CURRENT_PASSWORD_REQUIRED", change("", &new).await);
    search.refusal("FIELD_INVALID", change(password, &short).await);
    search.refusal("FIELD_INVALID", change(password, &long).await);
    search.refusal("FIELD_INVALID", change(&long, &new).await);
    search
        .answer("changing", change(password, &new).await)
        .unwrap();
    new
}

/// Operators and keys that an ADMIN creates, with retries, and with requests that fail.
pub async fn managing(search: &mut Search, ada: &Caller) {
    let new = proto::CreateOperatorRequest {
        operator: Some(proto::Operator {
            username: "eve".into(),
            role: proto::Role::Viewer.into(),
            ..Default::default()
        }),
        password: search.secret("the password of a new operator"),
        request_id: "01900000-0000-7000-8000-0000000000e1".into(),
        ..Default::default()
    };
    let mut id = String::new();
    for name in ["creating an operator", "retrying to"] {
        let answer = search.answer(name, ada.operators().create(new.clone()).await);
        id = answer.unwrap().into_inner().operator.unwrap().id;
    }
    let taken = proto::CreateOperatorRequest {
        request_id: String::new(),
        ..new
    };
    search.refusal("DUPLICATE_OPERATOR", ada.operators().create(taken).await);
    let mut reset = proto::ResetPasswordRequest {
        id,
        new_password: search.secret("a password that is reset"),
        request_id: "01900000-0000-7000-8000-0000000000e2".into(),
        ..Default::default()
    };
    let answer = ada.operators().reset_password(reset.clone()).await;
    search.answer("resetting", answer).unwrap();
    reset.new_password = search.secret("a password of a retry");
    reset.etag = "\"1\"".into();
    let answer = ada.operators().reset_password(reset).await;
    search.refusal("REQUEST_ID_REUSED", answer);

    let list = ada
        .service_accounts()
        .list(proto::ListServiceAccountsRequest::default())
        .await;
    let account = list.unwrap().into_inner().service_accounts.remove(0);
    let request = proto::CreateKeyRequest {
        id: account.id,
        request_id: "01900000-0000-7000-8000-0000000000e3".into(),
        ..Default::default()
    };
    let created = ada
        .service_accounts()
        .create_key(request.clone())
        .await
        .unwrap();
    search.hide_token("a key of an RPC", &created.get_ref().api_key);
    let again = ada.service_accounts().create_key(request).await;
    search.answer("retrying CreateKey", again).unwrap();
    search.look_at("CreateKey", format!("{created:?}").as_bytes());
}

/// All events, as an ADMIN lists and watches them.
pub async fn auditing(search: &mut Search, ada: &Caller) {
    let request = proto::ListEventsRequest {
        page_size: 1_000,
        ..Default::default()
    };
    let list = search.answer("events", ada.events().list(request).await);
    let list = list.unwrap().into_inner();
    assert_eq!(list.next_page_token, "", "one page");
    let request = proto::WatchEventsRequest {
        begin: Some(Begin::Start(proto::WatchStart::Earliest.into())),
        ..Default::default()
    };
    let stream = ada.events().watch(request).await;
    let mut stream = stream.unwrap().into_inner();
    let mut watched = Vec::new();
    while watched.len() < list.events.len() {
        let message = search.answer("events", stream.message().await);
        if let Some(Item::Event(event)) = message.unwrap().unwrap().item {
            watched.push(event);
        }
    }
    watched.reverse();
    assert_eq!(watched, list.events);
}
