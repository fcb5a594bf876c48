//! The style of the protos, checked on the descriptor set that the services serve.
//!
//! Every element says what it is, enums start with nothing, every method owns its messages and declares a permission.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto,
    source_code_info::Location,
};
use strata_proto::types::v1::Permission;

fn files() -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(strata_proto::DESCRIPTORS).unwrap();
    let ours: Vec<_> = set.file.into_iter().filter(|file| file.package().starts_with("strata.")).collect();
    assert!(ours.len() >= 15, "only {} files of ours", ours.len());
    ours
}

fn location<'a>(file: &'a FileDescriptorProto, path: &[i32]) -> Option<&'a Location> {
    file.source_code_info.as_ref()?.location.iter().find(|location| location.path == path)
}

fn comment(file: &FileDescriptorProto, path: &[i32]) -> String {
    let Some(location) = location(file, path) else { return String::new() };
    let text = format!("{} {}", location.leading_comments(), location.trailing_comments());
    text.trim().to_owned()
}

/// Collects elements without a comment.
struct Walk<'a> {
    file: &'a FileDescriptorProto,
    missing: Vec<String>,
    seen: usize,
}

impl Walk<'_> {
    fn element(&mut self, path: &[i32], name: &str) {
        self.seen += 1;
        if comment(self.file, path).is_empty() {
            self.missing.push(format!("{}: {name}", self.file.name()));
        }
    }

    // Numbers of fields of descriptor.proto: a message's fields are 2, nested messages 3, enums 4, oneofs 8.
    fn message(&mut self, path: &[i32], message: &DescriptorProto) {
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        self.element(path, message.name());
        for (index, field) in (0..).zip(&message.field) {
            self.element(&[path, &[2, index]].concat(), &format!("{}.{}", message.name(), field.name()));
        }
        for (index, oneof) in (0..).zip(&message.oneof_decl) {
            // "optional" makes a oneof that nobody wrote.
            if !oneof.name().starts_with('_') {
                self.element(&[path, &[8, index]].concat(), &format!("{}.{}", message.name(), oneof.name()));
            }
        }
        for (index, nested) in (0..).zip(&message.nested_type) {
            self.message(&[path, &[3, index]].concat(), nested);
        }
        for (index, nested) in (0..).zip(&message.enum_type) {
            self.enumeration(&[path, &[4, index]].concat(), nested);
        }
    }

    fn enumeration(&mut self, path: &[i32], enumeration: &EnumDescriptorProto) {
        self.element(path, enumeration.name());
        for (index, value) in (0..).zip(&enumeration.value) {
            self.element(&[path, &[2, index]].concat(), value.name());
        }
    }
}

#[test]
fn every_element_says_what_it_is() {
    for file in files() {
        let mut walk = Walk { file: &file, missing: vec![], seen: 0 };
        for (index, message) in (0..).zip(&file.message_type) {
            walk.message(&[4, index], message);
        }
        for (index, enumeration) in (0..).zip(&file.enum_type) {
            walk.enumeration(&[5, index], enumeration);
        }
        for (index, service) in (0..).zip(&file.service) {
            walk.element(&[6, index], service.name());
            for (method, rpc) in (0..).zip(&service.method) {
                walk.element(&[6, index, 2, method], rpc.name());
            }
        }
        for (index, extension) in (0..).zip(&file.extension) {
            walk.element(&[7, index], extension.name());
        }
        // The file itself speaks above its package.
        walk.element(&[2], "package");

        assert!(walk.missing.is_empty(), "no comment on\n{}", walk.missing.join("\n"));
        assert!(walk.seen > 3, "{} is empty", file.name());
    }
}

#[test]
fn a_package_is_its_path_and_its_version() {
    for file in files() {
        let (directory, _) = file.name().rsplit_once('/').unwrap();

        assert_eq!(directory.replace('/', "."), file.package(), "{}", file.name());
        assert!(file.package().ends_with(".v1"), "{}", file.package());
        assert_eq!(file.syntax(), "proto3");
    }
}

fn enums(file: &FileDescriptorProto) -> Vec<&EnumDescriptorProto> {
    file.enum_type.iter().chain(file.message_type.iter().flat_map(|message| &message.enum_type)).collect()
}

/// "CacheMode" -> "CACHE_MODE".
fn screaming(name: &str) -> String {
    let mut text = String::new();
    for (index, c) in name.chars().enumerate() {
        if c.is_uppercase() && index > 0 {
            text.push('_');
        }
        text.push(c.to_ascii_uppercase());
    }
    text
}

#[test]
fn enums_are_prefixed_and_start_with_nothing() {
    for file in files() {
        for enumeration in enums(&file) {
            let prefix = screaming(enumeration.name());

            assert_eq!(enumeration.value[0].name(), format!("{prefix}_UNSPECIFIED"), "{}", file.name());
            assert_eq!(enumeration.value[0].number(), 0);
            for value in &enumeration.value {
                assert!(value.name().starts_with(&format!("{prefix}_")), "{}: {}", file.name(), value.name());
            }
        }
    }
}

fn methods(files: &[FileDescriptorProto]) -> Vec<(&FileDescriptorProto, Vec<i32>, &MethodDescriptorProto)> {
    let mut all = vec![];
    for file in files {
        for (service, index) in file.service.iter().zip(0..) {
            all.extend(service.method.iter().zip(0..).map(|(rpc, at)| (file, vec![6, index, 2, at], rpc)));
        }
    }
    assert!(all.len() > 30, "only {} methods", all.len());
    all
}

#[test]
fn every_method_owns_its_request_and_its_response() {
    let files = files();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();

    for (file, _, rpc) in methods(&files) {
        for (message, suffix) in [(rpc.input_type(), "Request"), (rpc.output_type(), "Response")] {
            let expected = format!(".{}.{}{suffix}", file.package(), rpc.name());
            assert_eq!(message, expected, "{}: {}", file.name(), rpc.name());
            let other = owners.insert(message, rpc.name());
            assert_eq!(other, None, "{message} serves two methods");
        }
    }
}

#[test]
fn services_are_named_for_what_they_keep() {
    for file in files() {
        for service in &file.service {
            assert!(service.name().ends_with("Service"), "{}: {}", file.name(), service.name());
        }
    }
}

#[test]
fn nothing_is_empty_or_any() {
    fn fields(message: &DescriptorProto) -> Vec<String> {
        let own =
            message.field.iter().map(|field| format!("{}.{}: {}", message.name(), field.name(), field.type_name()));
        own.chain(message.nested_type.iter().flat_map(fields)).collect()
    }

    for file in files() {
        for dependency in &file.dependency {
            assert!(!dependency.ends_with("empty.proto") && !dependency.ends_with("any.proto"), "{}", file.name());
        }
        for field in file.message_type.iter().flat_map(fields) {
            assert!(!field.contains("protobuf.Any") && !field.contains("protobuf.Empty"), "{field}");
        }
    }
}

#[test]
fn every_method_declares_a_permission() {
    let mut used = BTreeSet::new();

    for file in files() {
        for service in &file.service {
            for rpc in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), rpc.name());
                let permission = strata_proto::permission(&path).unwrap_or_default();
                assert_ne!(permission, Permission::Unspecified, "{path}");
                used.insert(permission.as_str_name());
            }
        }
    }

    assert!(used.len() >= 4, "the permissions tell nothing apart: {used:?}");
}

#[test]
fn every_method_says_how_it_fails_in_words_of_its_faults() {
    let files = files();
    let known: BTreeMap<&str, BTreeSet<&str>> = files
        .iter()
        .filter(|file| file.name().ends_with("/faults.proto"))
        .map(|file| (file.package(), enums(file)[0].value.iter().map(|value| value.name()).collect()))
        .collect();
    assert_eq!(known.len(), 4, "one list of faults per service, and one of the door before it");

    for (file, path, rpc) in methods(&files) {
        let text = comment(file, &path);
        let (_, faults) = text.split_once("Faults:").unwrap_or_else(|| panic!("{} has no Faults:", rpc.name()));

        for word in faults.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| word.starts_with("FAULT_")) {
            assert!(known[file.package()].contains(word), "{}.{}: {word} is no fault", file.package(), rpc.name());
        }
    }
}

#[test]
fn lists_come_in_pages() {
    for file in files() {
        for message in file.message_type.iter().filter(|message| message.name().starts_with("List")) {
            // ListTree streams one directory's matches; it is no list of resources.
            if message.name().starts_with("ListTree") || message.name().starts_with("Listed") {
                continue;
            }
            let fields: BTreeSet<&str> = message.field.iter().map(|field| field.name()).collect();
            let wanted: &[&str] =
                if message.name().ends_with("Request") { &["page_size", "page_token"] } else { &["next_page_token"] };
            for field in wanted {
                assert!(fields.contains(field), "{}: {} has no {field}", file.name(), message.name());
            }
        }
    }
}

#[test]
fn a_request_that_is_printed_shows_no_secret() {
    use strata_proto::store::v1::PullImageRequest;
    use strata_proto::types::v1::{RegistryCredentials, RegistryPassword, registry_credentials::Proof};
    let password = RegistryPassword { username: "me".into(), password: "canary-4711".into() };
    for proof in [
        Proof::Password(password),
        Proof::IdentityToken("canary-4711".into()),
        Proof::RegistryToken("canary-4711".into()),
    ] {
        let credentials = RegistryCredentials { registry: "reg.example".into(), proof: Some(proof) };
        let request = PullImageRequest { credentials: vec![credentials], ..Default::default() };

        let shown = format!("{request:?} {request:#?}");

        assert!(shown.contains("reg.example") && !shown.contains("canary-4711"), "{shown}");
    }
}

#[test]
fn a_step_that_is_printed_shows_no_secret() {
    use strata_proto::builder::v1::{BuildRequest, BuildSecret, build_request::Event};
    use strata_proto::runtime::v1::{
        BytesSource, ContainerSpec, CreateSecretRequest, MountSpec, ReadSecretResponse, SecretVariable,
        mount_spec::Source,
    };
    let canary = "canary-4711";
    let secret = BuildSecret { number: 7, value: Some(canary.into()), problem: String::new() };
    let request = BuildRequest { event: Some(Event::Secret(secret)) };
    let bytes = Source::Bytes(BytesSource { data: canary.into(), mode: 0o400, ..Default::default() });
    let spec = ContainerSpec {
        mounts: vec![MountSpec { target: "/s".into(), source: Some(bytes), ..Default::default() }],
        secret_env: vec![SecretVariable { name: "TOKEN".into(), value: canary.into() }],
        ..Default::default()
    };

    let kept = CreateSecretRequest { name: "TOKEN".into(), value: canary.into(), ..Default::default() };
    let read = ReadSecretResponse { value: canary.into() };

    let shown = format!("{request:?} {request:#?} {spec:?} {kept:?} {kept:#?} {read:?}");

    assert!(shown.contains("number: 7") && shown.contains("TOKEN") && shown.contains("/s"), "{shown}");
    assert!(!shown.contains(canary) && !shown.contains("99, 97, 110"), "{shown}");
}
