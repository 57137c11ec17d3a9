//! Parses the requests of `EventService`.

use std::collections::BTreeSet;

use crate::core::call::PrincipalKind;
use crate::core::role::Role;
use crate::core::text::Limit;
use crate::core::violations::{Reason, Violations};
use crate::db::event_log::Start;
use crate::error::Result;
use crate::features::events::model::{Filter, ListFilter, Subject};
use crate::features::events::watch::Begin;
use crate::grpc::enums::{WireEnum as _, wire_enum};
use crate::grpc::read;
use crate::grpc::watch_token::{MAX_LENGTH, WatchTokens};
use leadsmith_proto as proto;
use proto::watch_events_request::Begin as Given;

/// The maximum number of types.
const MAX_TYPES: usize = 100;
/// The maximum number of characters of a type.
const MAX_TYPE: usize = 100;

/// What a request asks for.
pub struct Asked {
    begin: Begin,
    filter: Filter,
}

impl Asked {
    /// As far as a caller of this role may see it.
    pub fn of_role(self, role: Role) -> (Begin, Filter) {
        let filter = Filter {
            is_admin: role == Role::Admin,
            ..self.filter
        };
        (self.begin, filter)
    }
}

/// Parses a request of Watch. The outer violations prevent the use of the result.
///
/// # Errors
/// `RESUME_TOKEN_INVALID`.
pub fn watch(
    violations: &mut Violations,
    tokens: &WatchTokens,
    mut body: proto::WatchEventsRequest,
) -> Result<Asked> {
    let mut since = None;
    let now = Ok(Begin::Start(Start::Now));
    let begin = match body.begin {
        Some(Given::Start(start)) => match proto::WatchStart::try_from(start) {
            Ok(proto::WatchStart::Earliest) => Ok(Begin::Start(Start::Earliest)),
            Ok(proto::WatchStart::Now) => now,
            Ok(proto::WatchStart::Unspecified) => {
                required(violations);
                now
            }
            Err(_) => {
                violations.add(
                    "start",
                    Reason::ValueUnknown,
                    "is not one of the enum's values",
                );
                now
            }
        },
        Some(Given::StartTime(time)) => match read::time(violations, "start_time", Some(time)) {
            Some(time) => {
                since = Some(time);
                Ok(Begin::Start(Start::Time(time)))
            }
            None => now,
        },
        Some(Given::ResumeToken(token)) if token.is_empty() => {
            violations.add(
                "resume_token",
                Reason::Required,
                "is empty: send the token of a message, or a start",
            );
            now
        }
        Some(Given::ResumeToken(token)) if token.len() > MAX_LENGTH => {
            read::check_text(
                violations,
                "resume_token",
                &token,
                Limit::Characters(MAX_LENGTH),
            );
            now
        }
        Some(Given::ResumeToken(token)) => tokens.open(&token).map(|token| {
            since = token.since;
            Begin::Position(token.from)
        }),
        None => {
            required(violations);
            now
        }
    };
    let filter = Filter {
        types: types(violations, &body.types),
        lead_id: read::optional_id(violations, "lead_id", &body.lead_id),
        subjects: subjects(violations, &mut body.subjects),
        is_admin: false,
        since,
    };
    Ok(Asked {
        begin: begin?,
        filter,
    })
}

/// Parses a request of List, except its page. The role decides what the caller may see.
pub fn list(
    violations: &mut Violations,
    body: &mut proto::ListEventsRequest,
    role: Role,
) -> ListFilter {
    ListFilter {
        actor_id: read::optional_id(violations, "actor_id", &body.actor_id),
        actor_kinds: read::enums(
            violations,
            "actor_kinds",
            &mut body.actor_kinds,
            PrincipalKind::from_wire,
        )
        .into_iter()
        .collect(),
        types: types(violations, &body.types),
        subjects: subjects(violations, &mut body.subjects),
        subject_id: read::optional_id(violations, "subject_id", &body.subject_id),
        lead_id: read::optional_id(violations, "lead_id", &body.lead_id),
        time_after: read::time(violations, "time_after", body.time_after),
        time_before: read::time(violations, "time_before", body.time_before),
        is_admin: role == Role::Admin,
    }
}

fn required(violations: &mut Violations) {
    violations.add(
        "start",
        Reason::Required,
        "is required, or start_time or resume_token instead: where the stream begins",
    );
}

fn subjects(violations: &mut Violations, given: &mut Vec<i32>) -> BTreeSet<Subject> {
    let subjects = read::enums(violations, "subjects", given, Subject::from_wire);
    subjects.into_iter().collect()
}

fn types(violations: &mut Violations, given: &[String]) -> BTreeSet<String> {
    if given.len() > MAX_TYPES {
        violations.add(
            "types",
            Reason::TooMany,
            format_args!("must have at most {MAX_TYPES} elements"),
        );
        return BTreeSet::new();
    }
    for (index, r#type) in given.iter().enumerate() {
        let field = format_args!("types[{index}]");
        if r#type.is_empty() {
            violations.add(field, Reason::Required, "must not be empty");
        } else {
            read::check_text(violations, field, r#type, Limit::Characters(MAX_TYPE));
        }
    }
    given.iter().cloned().collect()
}

wire_enum!(
    Subject = proto::EventSubject {
        Lead,
        Opportunity,
        Order,
        OrderQueue,
        Operator,
        ServiceAccount
    }
);
