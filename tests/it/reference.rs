//! The pages of the manual about the contract, `docs/src/reference/`: one per .proto file, and one with all RPCs. They
//! are generated from the descriptors and their comments, and the committed pages must be the generated ones.
//! `INSTA_UPDATE=always scripts/test reference` writes them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use leadsmith::auth::policy::{self, Access};
use leadsmith::core::text_enum::TextEnum as _;
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};

use crate::harness::markdown::{in_root, markdown, read};

const FOLDER: &str = "docs/src/reference";
const PACKAGE: &str = "leadsmith.v1";
const GENERATED: &str =
    "<!-- Generated from the contract: INSTA_UPDATE=always scripts/test reference -->";

#[test]
fn the_reference_is_what_the_contract_says() {
    let pages = pages();
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        fs::create_dir_all(in_root(FOLDER)).unwrap();
        for path in markdown(FOLDER) {
            fs::remove_file(in_root(&path)).unwrap();
        }
        for (path, page) in &pages {
            fs::write(in_root(path), page).unwrap();
        }
    }
    let committed = markdown(FOLDER).into_iter();
    let committed: BTreeMap<String, String> = committed
        .map(|path| {
            let page = read(&path);
            (path, page)
        })
        .collect();
    let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
    let remedy = "`INSTA_UPDATE=always scripts/test reference` writes the pages; \
                  docs/src/SUMMARY.md lists them";
    assert_eq!(names(&committed), names(&pages), "{remedy}");
    for (path, page) in &pages {
        let difference = committed[path].lines().zip(page.lines());
        let difference = difference.enumerate().find(|(_, (old, new))| old != new);
        assert!(
            committed[path] == *page,
            "{path} differs from the contract, first at {difference:?}: {remedy}"
        );
    }
}

/// Where in a file something is, in the form of `SourceCodeInfo`: pairs of a field's number and an index.
type Path = Vec<i32>;

/// The numbers of fields of the descriptors.
const SYNTAX: i32 = 12;
const SERVICE: i32 = 6;
const METHOD: i32 = 2;
const MESSAGE: i32 = 4;
const FIELD: i32 = 2;
const NESTED_MESSAGE: i32 = 3;
const NESTED_ENUM: i32 = 4;
const ENUM: i32 = 5;
const VALUE: i32 = 2;

/// A .proto file, and where the types of all files are explained.
struct Page<'a> {
    file: &'a FileDescriptorProto,
    comments: BTreeMap<Path, String>,
    /// The page of each type, by the type's full name with a dot before it.
    pages: &'a BTreeMap<String, String>,
}

/// The path and the text of every page.
fn pages() -> BTreeMap<String, String> {
    let set = FileDescriptorSet::decode(leadsmith_proto::DESCRIPTORS).unwrap();
    let files = set.file.iter().filter(|file| file.package() == PACKAGE);
    let files: Vec<&FileDescriptorProto> = files.collect();
    let mut places = BTreeMap::new();
    for file in &files {
        let messages = file.message_type.iter().map(DescriptorProto::name);
        let enums = file.enum_type.iter().map(EnumDescriptorProto::name);
        for name in messages.chain(enums) {
            places.insert(format!(".{PACKAGE}.{name}"), stem(file).to_owned());
        }
    }
    let pages: Vec<Page<'_>> = files
        .into_iter()
        .map(|file| Page {
            file,
            comments: comments(file),
            pages: &places,
        })
        .collect();
    let mut texts: BTreeMap<String, String> = pages
        .iter()
        .map(|page| (format!("{FOLDER}/{}.md", stem(page.file)), page.text()))
        .collect();
    texts.insert(format!("{FOLDER}/rpcs.md"), overview(&pages));
    texts
}

/// The name of a file without its folder and extension.
fn stem(file: &FileDescriptorProto) -> &str {
    let name = file.name().rsplit('/').next().unwrap();
    name.trim_end_matches(".proto")
}

fn comments(file: &FileDescriptorProto) -> BTreeMap<Path, String> {
    let info = file.source_code_info.as_ref().unwrap();
    let locations = info.location.iter();
    locations
        .filter_map(|location| {
            let comment = location.leading_comments.as_deref()?;
            let lines = comment
                .lines()
                .map(|line| line.strip_prefix(' ').unwrap_or(line));
            let comment = lines.collect::<Vec<_>>().join("\n");
            Some((location.path.clone(), escaped(comment.trim())))
        })
        .collect()
}

/// Text in which Markdown sees no HTML.
fn escaped(text: &str) -> String {
    let mut is_code = false;
    let escape = |c: char| {
        is_code ^= c == '`';
        match c {
            '<' if !is_code => "&lt;".to_owned(),
            _ => c.to_string(),
        }
    };
    text.chars().map(escape).collect()
}

/// The text in one line, as the cell of a table.
fn cell(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|part| part.replace('\n', " "));
    let text = paragraphs.collect::<Vec<_>>().join("<br><br>");
    text.replace('|', "\\|")
}

/// The access that the policy requires for an RPC.
fn access(rpc: &str) -> String {
    let (_, access) = policy::RPCS[policy::find(rpc).unwrap()];
    match access {
        Access::Open => "no token".to_owned(),
        Access::Principal => "any role".to_owned(),
        Access::AtLeast(role) => role.as_str().to_owned(),
    }
}

/// The page with all RPCs.
fn overview(pages: &[Page<'_>]) -> String {
    let mut text = format!(
        "{GENERATED}\n\n# All RPCs\n\n\
         These are the services of the package `{PACKAGE}`. Each RPC has the least role that may call it. The server \
         also has `grpc.health.v1.Health`, and reflection (`grpc.reflection.v1` and `v1alpha`).\n"
    );
    for page in pages {
        for (index, service) in (0..).zip(&page.file.service) {
            let _ = write!(
                text,
                "\n## {}\n\n| RPC | Role | What it does |\n|---|---|---|\n",
                service.name()
            );
            for (number, method) in (0..).zip(&service.method) {
                let comment = page.comment(&[SERVICE, index, METHOD, number]);
                let name = format!("{}.{}", service.name(), method.name());
                let _ = writeln!(
                    text,
                    "| [{}]({}.md#{}) | {} | {} |",
                    method.name(),
                    stem(page.file),
                    name.replace('.', "").to_lowercase(),
                    access(&rpc(service, method)),
                    cell(sentence(comment)),
                );
            }
        }
    }
    text
}

/// The first sentence of a comment.
fn sentence(comment: &str) -> &str {
    let ends = comment.match_indices('.').map(|(at, _)| at + 1);
    let mut ends = ends.filter(|end| comment[*end..].starts_with([' ', '\n']));
    ends.next().map_or(comment, |end| &comment[..end])
}

fn rpc(service: &ServiceDescriptorProto, method: &MethodDescriptorProto) -> String {
    format!("{PACKAGE}.{}/{}", service.name(), method.name())
}

impl Page<'_> {
    fn comment(&self, path: &[i32]) -> &str {
        let comment = self.comments.get(path).map(String::as_str);
        comment.unwrap_or_else(|| panic!("{}: no comment at {path:?}", self.file.name()))
    }

    fn text(&self) -> String {
        let file = self.file;
        let title = match file.service.first() {
            Some(service) => service.name(),
            None => file.name(),
        };
        let mut text = format!("{GENERATED}\n\n# {title}\n\n{}\n", self.comment(&[SYNTAX]));
        for (index, service) in (0..).zip(&file.service) {
            self.service(&mut text, index, service);
        }
        if !file.message_type.is_empty() {
            text.push_str("\n## Messages\n");
        }
        for (index, message) in (0..).zip(&file.message_type) {
            self.message(&mut text, &[MESSAGE, index], "", message);
        }
        if !file.enum_type.is_empty() {
            text.push_str("\n## Enums\n");
        }
        for (index, item) in (0..).zip(&file.enum_type) {
            self.enumeration(&mut text, &[ENUM, index], "", item);
        }
        text
    }

    fn service(&self, text: &mut String, index: i32, service: &ServiceDescriptorProto) {
        let _ = write!(
            text,
            "\nDefined in `{}`.\n\n{}\n\n## RPCs\n",
            self.file.name(),
            self.comment(&[SERVICE, index])
        );
        for (number, method) in (0..).zip(&service.method) {
            let stream = |is_stream| if is_stream { "stream of " } else { "" };
            let _ = write!(
                text,
                "\n### {}.{}\n\n`{}`: {}{} → {}{}\n\n{}\n",
                service.name(),
                method.name(),
                rpc(service, method),
                stream(method.client_streaming()),
                self.link(method.input_type()),
                stream(method.server_streaming()),
                self.link(method.output_type()),
                self.comment(&[SERVICE, index, METHOD, number]),
            );
        }
    }

    /// A message with its fields, and then the types that are defined in it.
    fn message(&self, text: &mut String, path: &[i32], outer: &str, message: &DescriptorProto) {
        let name = format!("{outer}{}", message.name());
        let _ = write!(text, "\n### {name}\n\n{}\n", self.comment(path));
        if message.field.is_empty() {
            text.push_str("\nIt has no fields.\n");
        } else {
            text.push_str("\n| Field | Number | Type | Meaning |\n|---|--:|---|---|\n");
        }
        for (index, field) in (0..).zip(&message.field) {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                field.name(),
                field.number(),
                self.field_type(message, field),
                cell(self.comment(&[path, &[FIELD, index]].concat())),
            );
        }
        let outer = format!("{name}.");
        for (index, nested) in (0..).zip(&message.nested_type) {
            if !is_map_entry(nested) {
                let path = [path, &[NESTED_MESSAGE, index]].concat();
                self.message(text, &path, &outer, nested);
            }
        }
        for (index, nested) in (0..).zip(&message.enum_type) {
            let path = [path, &[NESTED_ENUM, index]].concat();
            self.enumeration(text, &path, &outer, nested);
        }
    }

    fn enumeration(
        &self,
        text: &mut String,
        path: &[i32],
        outer: &str,
        item: &EnumDescriptorProto,
    ) {
        let _ = write!(
            text,
            "\n### {outer}{}\n\n{}\n\n| Value | Number | Meaning |\n|---|--:|---|\n",
            item.name(),
            self.comment(path)
        );
        for (index, value) in (0..).zip(&item.value) {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} |",
                value.name(),
                value.number(),
                cell(self.comment(&[path, &[VALUE, index]].concat())),
            );
        }
    }

    /// The type of a field, with what is special about it.
    fn field_type(&self, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
        let map = message.nested_type.iter().find(|nested| {
            is_map_entry(nested) && field.type_name().ends_with(&format!(".{}", nested.name()))
        });
        if let Some(entry) = map {
            let [key, value] = &entry.field[..] else {
                panic!("{}: a map has keys and values", field.name());
            };
            return format!("map of {} to {}", self.kind(key), self.kind(value));
        }
        let kind = self.kind(field);
        match (field.label(), field.oneof_index) {
            (Label::Repeated, _) => format!("repeated {kind}"),
            (_, Some(_)) if field.proto3_optional() => format!("optional {kind}"),
            (_, Some(index)) => {
                let oneof = &message.oneof_decl[usize::try_from(index).unwrap()];
                format!("{kind}, one of `{}`", oneof.name())
            }
            (_, None) => kind,
        }
    }

    fn kind(&self, field: &FieldDescriptorProto) -> String {
        let kind = field.r#type();
        match matches!(kind, Type::Message | Type::Enum) {
            true => self.link(field.type_name()),
            false => kind.as_str_name().replace("TYPE_", "").to_lowercase(),
        }
    }

    /// The name of a type, as a link if it has a page.
    fn link(&self, full_name: &str) -> String {
        let name = full_name.trim_start_matches('.');
        let short = name
            .strip_prefix(PACKAGE)
            .map_or(name, |rest| rest.trim_start_matches('.'));
        let anchor = short.replace('.', "").to_lowercase();
        // A nested type is on the page of the message that contains it.
        let outer = short.split('.').next().unwrap();
        match self.pages.get(&format!(".{PACKAGE}.{outer}")) {
            Some(page) if page == stem(self.file) => format!("[{short}](#{anchor})"),
            Some(page) => format!("[{short}]({page}.md#{anchor})"),
            None => format!("`{short}`"),
        }
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message
        .options
        .as_ref()
        .is_some_and(|options| options.map_entry())
}
