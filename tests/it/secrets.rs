//! Secrets stay secret: each password, token and key is searched for wherever something is written
//! down, after calls that succeed and calls that fail in every way that carries one.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use leadsmith::wire::proto::{self, Lead};
use prost_reflect::{DescriptorPool, Kind};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tonic::Status;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::harness::{
    self, Backend, Caller, TestDatabase, count, eventually, is_let_in, reason, update,
};
use crate::program::{Program, leadsmith};
use crate::{on_both_empty, raw};

/// The ways a secret could show in something written.
fn forms(secret: &str) -> BTreeSet<String> {
    let bytes = secret.as_bytes();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let mut forms = BTreeSet::from([
        secret.to_owned(),
        secret.to_lowercase(),
        secret.to_uppercase(),
        hex.to_uppercase(),
        hex,
        numbers.join(", "),
        numbers.join(","),
    ]);
    // In the midst of something longer it begins at any of three places; only the characters that
    // are made of it alone are searched for.
    for before in 0..3 {
        let padded = [&vec![0; before], bytes].concat();
        let whole = before * 8..padded.len() * 8;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let text = engine.encode(&padded);
            forms.insert(text[whole.start.div_ceil(6)..whole.end / 6].to_owned());
        }
    }
    forms
}

/// What must not show, and where it is searched for.
#[derive(Default)]
struct Search {
    secrets: Vec<(String, String)>,
    places: Vec<(String, String)>,
}

impl Search {
    /// A new secret, of lower-case letters and digits.
    fn secret(&mut self, name: &str) -> String {
        let bits = leadsmith::clock::random_256_bits();
        let text: String = bits[..16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.hide(name, &text);
        text
    }

    fn hide(&mut self, name: &str, secret: &str) {
        assert!(
            secret.len() >= 11,
            "{name} is so short that it could show by chance"
        );
        self.secrets.push((name.into(), secret.into()));
    }

    /// Of a token or a key only what is secret, without the prefix.
    fn hide_token(&mut self, name: &str, token: &str) {
        self.hide(name, &token[4..]);
    }

    fn look_at(&mut self, name: impl Into<String>, written: &[u8]) {
        let text = String::from_utf8_lossy(written).into_owned();
        self.places.push((name.into(), text));
    }

    /// Looks at a call's answer, every byte of an error's details too.
    fn answer<T: Debug>(&mut self, name: &str, answer: Result<T, Status>) -> Result<T, Status> {
        self.look_at(name, format!("{answer:?}").as_bytes());
        if let Err(status) = &answer {
            self.look_at(name, status.message().as_bytes());
            self.look_at(name, status.details());
        }
        answer
    }

    /// Looks at the answer of a call that fails for this reason.
    fn refusal<T: Debug>(&mut self, why: &str, answer: Result<T, Status>) {
        let status = self.answer(why, answer).unwrap_err();
        assert_eq!(reason(&status), why, "{status:?}");
    }

    fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, secret) in &self.secrets {
            for form in forms(secret) {
                for (place, text) in &self.places {
                    if text.contains(&form) {
                        found.push(format!("{name} in {place} as {form}"));
                    }
                }
            }
        }
        found
    }

    /// The text of every place of this name.
    fn text(&self, place: &str) -> String {
        let texts = self.places.iter().filter(|(name, _)| name == place);
        texts.map(|(_, text)| text.as_str()).collect()
    }
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let secret = "K7-xY_9?secret~word";
    for before in ["", "a", "ab", "abc"] {
        let embedded = format!("{before}{secret}and more");
        let bytes = embedded.as_bytes();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        for written in [
            embedded.clone(),
            embedded.to_lowercase(),
            hex.to_lowercase(),
            hex,
            format!("{bytes:?}"),
            STANDARD_NO_PAD.encode(bytes),
            URL_SAFE_NO_PAD.encode(bytes),
        ] {
            let mut search = Search::default();
            search.hide("it", secret);
            search.look_at("there", b"nothing");
            assert_eq!(search.found().len(), 0);
            search.look_at("here", written.as_bytes());
            assert_ne!(search.found().len(), 0, "{written}");
        }
    }
}

/// Every row of every table.
pub async fn dump(db: &DatabaseConnection) -> String {
    let backend = db.get_database_backend();
    let sql = "SELECT table_name::text FROM information_schema.tables \
               WHERE table_schema = 'public'";
    let tables = db
        .query_all_raw(Statement::from_string(backend, sql))
        .await
        .unwrap();
    let mut text = String::new();
    for table in tables {
        let table: String = table.try_get_by_index(0).unwrap();
        let sql = format!("SELECT row_to_json(t)::text FROM \"{table}\" t");
        let rows = db
            .query_all_raw(Statement::from_string(backend, sql))
            .await
            .unwrap();
        for row in rows {
            let row: String = row.try_get_by_index(0).unwrap();
            text.push_str(&format!("{table} {row}\n"));
        }
    }
    text
}

/// Looks at all that is stored.
async fn look_at_stored(search: &mut Search, database: &TestDatabase) {
    match database.backend {
        Backend::Postgres => {
            let dump = dump(&database.connect().await).await;
            search.look_at("stored", dump.as_bytes());
        }
        Backend::Sqlite => {
            for file in fs::read_dir(database.folder.path()).unwrap() {
                let bytes = fs::read(file.unwrap().path()).unwrap();
                search.look_at("stored", &bytes);
            }
        }
    }
}

/// A URL of the same database with secrets in it, where it may have some.
fn url_with_secrets(search: &mut Search, database: &TestDatabase) -> String {
    if database.backend == Backend::Sqlite {
        return database.url.clone();
    }
    let (scheme, rest) = database.url.split_once("://").unwrap();
    let (user, host) = rest.rsplit_once('@').unwrap();
    let user = match user.split_once(':') {
        Some((_, password)) => {
            search.hide("the URL's password", password);
            user.to_owned()
        }
        // A server that asks for none takes any.
        None => format!("{user}:{}", search.secret("the URL's password")),
    };
    let unknown = search.secret("an unknown parameter of the URL");
    format!("{scheme}://{user}@{host}?pasword={unknown}")
}

/// The program with every log turned up as far as it goes.
fn talkative(arguments: &str, url: &str) -> Program {
    leadsmith(arguments)
        .database(url)
        .env("LEADSMITH_LOG", "trace")
        .env("RUST_LOG", "trace")
}

/// Runs a command, looks at all it says but a key that is to be shown, and gives that back.
async fn command(search: &mut Search, program: Program, shows_key: bool) -> String {
    let ended = program.run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    search.look_at("the commands' log", ended.err.as_bytes());
    if !shows_key {
        search.look_at("the commands' output", ended.out.as_bytes());
    }
    format!("{}{}", ended.out, ended.err)
}

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

/// An update of the email with a password.
fn email(lead: &Lead, to: &str, password: &str) -> proto::UpdateLeadRequest {
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

async fn send(caller: &Caller, request: proto::UpdateLeadRequest) -> Result<Lead, Status> {
    let answer = caller.leads().update(request).await?;
    Ok(answer.into_inner().lead.unwrap())
}

/// Signing in, rightly and wrongly.
async fn signing_in(search: &mut Search, channel: &Channel, password: &str) -> [Caller; 2] {
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

/// Messages that cannot be read, with a password in them.
async fn malformed(search: &mut Search, channel: &Channel, token: &str) {
    let secret = search.secret("a password in a malformed message");
    let length = u8::try_from(secret.len()).unwrap();
    let bearer = format!("Bearer {token}");
    for (rpc, field) in [
        ("AuthService/SignIn", 0x12),
        ("AuthService/ChangePassword", 0x0a),
        ("LeadService/Update", 0x1a),
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

/// Tokens that are none, or no longer, and RPCs that are none.
async fn strangers(search: &mut Search, channel: &Channel, token: &str, revoked: &str) {
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

/// Updates with a password, rightly and wrongly.
async fn updating(search: &mut Search, ada: &Caller, password: &str) {
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

/// Erasing a lead, rightly and wrongly.
async fn erasing(search: &mut Search, ada: &Caller, password: &str) {
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

/// Changes of the password, rightly and wrongly. Gives the new one back.
async fn changing(search: &mut Search, ada: &Caller, password: &str) -> String {
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

/// What a line of the log is about may come from this service only; from others only what matters.
fn others_are_quiet(log: &str) {
    for line in log.lines() {
        let mut words = line.split_whitespace().skip(1);
        if let (Some("DEBUG" | "TRACE"), Some(target)) = (words.next(), words.next()) {
            assert!(target.starts_with("leadsmith"), "{line}");
        }
    }
}

on_both_empty! {
    async fn no_secret_is_logged_stored_or_answered(database: TestDatabase) {
        let mut all = Search::default();
        let search = &mut all;
        let url = url_with_secrets(search, &database);
        let run = |arguments: &str| talkative(arguments, &url);

        command(search, run("migrate up"), false).await;
        let password = search.secret("the operator's password");
        let create = run("operator create --username ada --role ADMIN").input(&password);
        command(search, create, false).await;
        command(search, run("service-account create --name billing --role SALES"), false).await;
        let mut keys = Vec::new();
        for name in ["an API key", "a revoked API key"] {
            let create = run("service-account create-key --name billing");
            let told = command(search, create, true).await;
            let key = told.lines().next().unwrap().to_owned();
            search.hide_token(name, &key);
            let id = told.split_once("revoking it: ").unwrap().1.split_once('.').unwrap().0;
            keys.push((key, id.to_owned()));
        }
        let revoke = run(&format!("service-account revoke-key --id {}", keys[1].1));
        command(search, revoke, false).await;
        let config = command(search, run("config"), false).await;
        assert!(config.contains("database-url"), "{config}");

        let mut server = run("serve").serve().await;
        let channel = harness::channel(server.address);
        let [ada, other] = signing_in(search, &channel, &password).await;
        let billing = Caller { token: keys[0].0.clone(), ..ada.clone() };
        malformed(search, &channel, &ada.token).await;
        strangers(search, &channel, &ada.token, &keys[1].0).await;
        updating(search, &ada, &password).await;
        erasing(search, &ada, &password).await;
        let request = email(&billing.create_lead("Hopper").await, "x@example.com", &password);
        search.refusal("OPERATOR_REQUIRED", send(&billing, request).await);
        look_at_stored(search, &database).await;

        let new = changing(search, &ada, &password).await;
        search.refusal("TOKEN_INVALID", other.auth().who_am_i(proto::WhoAmIRequest {}).await);
        let lead = ada.create_lead("Hamilton").await;
        let guess = search.secret("one guess too many");
        for _ in 0..2 {
            let answer = send(&ada, email(&lead, "y@example.com", &guess)).await;
            search.answer("guessing", answer).unwrap_err();
        }
        let answer = send(&ada, email(&lead, "y@example.com", &new)).await;
        search.refusal("PASSWORD_ATTEMPTS_EXCEEDED", answer);
        let set = search.secret("a password set from the command line");
        let set = run("operator set-password --username ada").input(&set);
        command(search, set, false).await;
        eventually("the session ends", async || !is_let_in(&ada).await).await;
        search.refusal("TOKEN_INVALID", ada.auth().sign_out(proto::SignOutRequest::default()).await);

        look_at_stored(search, &database).await;
        let db = database.connect().await;
        for table in ["history", "events", "idempotency_records", "sessions", "password_attempts"] {
            let sql = format!("SELECT count(*) FROM {table}");
            // set-password has ended the sessions; those were looked at before.
            assert!(count(&db, &sql).await > 0 || table == "sessions", "{table} is empty");
        }
        db.close().await.unwrap();
        server.terminate();
        assert!(server.ended(std::time::Duration::from_secs(10)).await.success());
        look_at_stored(search, &database).await;
        let log = server.log();
        search.look_at("the server's log", log.as_bytes());

        // The places were really there, and had something in them.
        for part in ["serving", "answered", "SIGN", "PASSWORD_ATTEMPTS_EXCEEDED", "DEBUG"] {
            assert!(log.contains(part), "{part} is not in the log: {log}");
        }
        others_are_quiet(&log);
        others_are_quiet(&search.text("the commands' log"));
        let stored = search.text("stored");
        for part in ["ada", "$argon2id$", "second@example.com", "current_password/"] {
            assert!(stored.contains(part), "{part} is not stored");
        }
        assert!(all.secrets.len() >= 20, "{}", all.secrets.len());
        assert_eq!(all.found(), Vec::<String>::new());
    }
}

/// The messages with a field that is a secret by its name.
fn secret_messages() -> BTreeSet<String> {
    let pool = DescriptorPool::decode(leadsmith::wire::DESCRIPTORS).unwrap();
    let secret = |name: &str| {
        let page = ["page_token", "next_page_token"].contains(&name);
        !page
            && ["password", "token", "secret", "api_key"]
                .iter()
                .any(|word| name.contains(word))
    };
    pool.all_messages()
        .filter(|message| message.package_name() == "leadsmith.v1")
        .filter(|message| {
            message
                .fields()
                .any(|field| secret(field.name()) && field.kind() == Kind::String)
        })
        .map(|message| message.name().to_owned())
        .collect()
}

#[test]
fn debug_of_a_message_with_a_secret_hides_it() {
    let secret = "correct horse battery";
    let text = || secret.to_owned();
    let lead = Lead {
        last_name: "Lovelace".into(),
        ..Lead::default()
    };
    let shown = [
        (
            "UpdateLeadRequest",
            format!(
                "{:?}",
                proto::UpdateLeadRequest {
                    current_password: text(),
                    ..update(lead, &[])
                }
            ),
        ),
        (
            "EraseLeadRequest",
            format!(
                "{:?}",
                proto::EraseLeadRequest {
                    current_password: text(),
                    ..Default::default()
                }
            ),
        ),
        (
            "SignInRequest",
            format!(
                "{:?}",
                proto::SignInRequest {
                    username: text(),
                    password: text(),
                    ..Default::default()
                }
            ),
        ),
        (
            "SignInResponse",
            format!(
                "{:?}",
                proto::SignInResponse {
                    token: text(),
                    ..Default::default()
                }
            ),
        ),
        (
            "ChangePasswordRequest",
            format!(
                "{:?}",
                proto::ChangePasswordRequest {
                    current_password: text(),
                    new_password: text(),
                    ..Default::default()
                }
            ),
        ),
    ];
    let names: BTreeSet<String> = shown.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(
        secret_messages(),
        names,
        "every message with a secret is looked at here"
    );
    for (name, shown) in &shown {
        assert!(shown.starts_with(name), "{shown}");
        for form in forms(secret) {
            assert!(!shown.contains(&form), "{shown}");
        }
    }
    assert!(
        shown[0].1.contains("Lovelace"),
        "what is no secret shows: {}",
        shown[0].1
    );
}
