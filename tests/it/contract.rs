//! The contract itself: the names that code generators derive from it, and the rules for every RPC.

use std::collections::BTreeSet;

use leadsmith::auth::policy::{self, Access};
use prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor, MethodDescriptor};

use crate::harness::documented::{comments, promised, reasons};

fn pool() -> DescriptorPool {
    DescriptorPool::decode(leadsmith_proto::DESCRIPTORS).unwrap()
}

/// The files of this project.
fn files(pool: &DescriptorPool) -> Vec<FileDescriptor> {
    let ours: Vec<_> = pool
        .files()
        .filter(|file| file.package_name() == "leadsmith.v1")
        .collect();
    assert!(ours.len() >= 8);
    ours
}

fn methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    let services = pool
        .services()
        .filter(|service| service.package_name() == "leadsmith.v1");
    let methods: Vec<_> = services
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect();
    assert!(methods.len() > 20);
    methods
}

/// The messages of this project, without the entries of maps.
fn messages(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    pool.all_messages()
        .filter(|message| message.package_name() == "leadsmith.v1" && !message.is_map_entry())
        .collect()
}

/// A read-only RPC.
fn only_reads(method: &MethodDescriptor) -> bool {
    let name = method.name();
    name.starts_with("Get")
        || name.starts_with("List")
        || ["BatchGet", "Search", "Watch", "WhoAmI"].contains(&name)
}

#[test]
fn every_language_is_told_where_its_code_belongs() {
    let pool = pool();
    for file in files(&pool) {
        let proto = file.file_descriptor_proto();
        let options = proto.options.as_ref().unwrap();
        let name = file.name().rsplit('/').next().unwrap();
        let class: String = name
            .trim_end_matches(".proto")
            .split('_')
            .map(|word| word[..1].to_uppercase() + &word[1..])
            .collect();
        assert_eq!(options.csharp_namespace(), "Leadsmith.V1");
        assert_eq!(
            options.go_package(),
            "leadsmith.example/go/leadsmith/v1;leadsmithv1"
        );
        assert_eq!(options.java_package(), "com.leadsmith.v1");
        assert_eq!(options.java_outer_classname(), format!("{class}Proto"));
        assert!(options.java_multiple_files());
        assert_eq!(options.objc_class_prefix(), "LDS");
        assert_eq!(options.php_namespace(), r"Leadsmith\V1");
        assert_eq!(
            options.php_metadata_namespace(),
            r"Leadsmith\V1\GPBMetadata"
        );
        assert_eq!(options.ruby_package(), "Leadsmith::V1");
        assert_eq!(options.swift_prefix(), "LeadsmithV1");
    }
}

/// Words that cannot follow a dot in Python, whose generator keeps the names of fields.
const PYTHON: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue",
    "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import",
    "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while",
    "with", "yield",
];

/// Types that generated code in some language imports before ours.
const EVERYWHERE: [&str; 22] = [
    "Action",
    "Array",
    "Boolean",
    "Class",
    "Collection",
    "Date",
    "Enum",
    "Error",
    "Exception",
    "Func",
    "Integer",
    "Iterator",
    "List",
    "Map",
    "Number",
    "Object",
    "Optional",
    "Process",
    "String",
    "Task",
    "Thread",
    "Type",
];

#[test]
fn no_field_is_a_keyword_and_no_message_a_type_that_is_everywhere() {
    let pool = pool();
    let mut fields = 0;
    for message in messages(&pool) {
        assert!(!EVERYWHERE.contains(&message.name()), "{}", message.name());
        for field in message.fields() {
            let name = field.name();
            assert!(!PYTHON.contains(&name), "{}", field.full_name());
            fields += 1;
        }
    }
    assert!(fields > 100);
}

#[test]
fn every_rpc_that_changes_something_can_be_tried_without_effect() {
    let pool = pool();
    for method in methods(&pool) {
        let found = method.input().get_field_by_name("validate_only");
        assert_eq!(
            found.is_some(),
            !only_reads(&method),
            "{}",
            method.full_name()
        );
        if let Some(field) = found {
            assert_eq!(field.kind(), prost_reflect::Kind::Bool);
        }
    }
}

/// The errors that every RPC can return, by the access that it requires and by the fields of its request.
fn expected(method: &MethodDescriptor) -> BTreeSet<&'static str> {
    let mut expected = BTreeSet::from([
        "SERVER_OVERLOADED",
        "MESSAGE_MALFORMED",
        "MESSAGE_TOO_LARGE",
        "ENCODING_UNSUPPORTED",
        "METHOD_UNKNOWN",
        "DEADLINE_EXCEEDED",
        "DATABASE_UNAVAILABLE",
        "INTERNAL",
    ]);
    let rpc = format!("{}/{}", method.parent_service().full_name(), method.name());
    let (_, access) = policy::RPCS[policy::find(&rpc).unwrap()];
    if access != Access::Open {
        expected.insert("TOKEN_INVALID");
        if method.name() != "SignOut" {
            expected.extend(["RATE_LIMITED", "RESPONSES_UNREAD"]);
        }
    }
    if let Access::AtLeast(_) = access {
        expected.insert("ROLE_INSUFFICIENT");
    }
    let input = method.input();
    let has = |name: &str| input.get_field_by_name(name).is_some();
    if input.fields().any(|field| field.name() != "validate_only") {
        expected.insert("FIELD_INVALID");
    }
    if has("page_token") {
        expected.extend(["PAGE_TOKEN_INVALID", "QUERY_TOO_SLOW"]);
    }
    if has("request_id") {
        // The last one is for a retry whose first response was erased with its lead.
        expected.extend(["REQUEST_ID_REUSED", "REQUEST_IN_FLIGHT", "WRITE_CONFLICT"]);
        let service = method.parent_service();
        let alone = [
            "OperatorService",
            "ServiceAccountService",
            "OrderQueueService",
        ];
        if !alone.contains(&service.name()) {
            expected.insert("LEAD_ERASED");
        }
    }
    if has("etag") || method.name() == "Update" {
        expected.insert("ETAG_MISMATCH");
    }
    if has("current_password") {
        expected.extend([
            "OPERATOR_REQUIRED",
            "CURRENT_PASSWORD_REQUIRED",
            "CURRENT_PASSWORD_INVALID",
            "PASSWORD_ATTEMPTS_EXCEEDED",
        ]);
    }
    expected
}

#[test]
fn every_comment_of_an_rpc_lists_every_reason_and_says_what_a_retry_does() {
    let (comments, reasons) = (comments(), reasons());
    let mut named = BTreeSet::from([
        // Health and reflection have contracts of their own.
        "SYMBOL_NOT_FOUND".to_owned(),
    ]);
    let pool = pool();
    for method in methods(&pool) {
        let rpc = format!("{}/{}", method.parent_service().full_name(), method.name());
        let comment = &comments[&rpc];
        assert!(
            comment.to_lowercase().contains("safe to retry"),
            "{rpc}: {comment}"
        );
        let promised = promised(comment);
        for reason in expected(&method) {
            assert!(
                promised.contains(reason),
                "the comment of {rpc} does not name {reason}"
            );
        }
        for reason in &promised {
            assert!(
                reasons.contains(reason),
                "the comment of {rpc} names {reason}, which is none"
            );
        }
        named.extend(promised);
    }
    assert_eq!(named, reasons, "every reason is one of some RPC");
}
