//! A profile in Docker's form: the OCI spec's rules, with conditions on capabilities, machine and kernel that are decided
//! here. Rules that do not apply are left out.

use oci_spec::runtime::{Capability, LinuxSeccomp};
use serde_json::{Map, Value, json};

use crate::capabilities::{self, CapabilitySet};

/// Why a document is no profile.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not JSON, or not of the form.
    #[error("the seccomp profile cannot be read")]
    Json(#[from] serde_json::Error),
    /// A field has the wrong form.
    #[error("the seccomp profile has no valid {field}")]
    Field {
        /// Its path.
        field: String,
    },
}

/// Reads a profile for a container whose bounding set is `bounding`, on a kernel of this release ("6.1.0").
pub fn read(text: &str, bounding: CapabilitySet, release: &str) -> Result<LinuxSeccomp, DocumentError> {
    let mut document: Map<String, Value> = serde_json::from_str(text)?;
    let wrong = |field: &str| DocumentError::Field { field: field.to_owned() };
    let map = document.remove("archMap");
    if let Some(map) = map.filter(|_| !document.contains_key("architectures")) {
        document.insert("architectures".to_owned(), architectures(&map).ok_or_else(|| wrong("archMap"))?);
    }
    let rules = document.remove("syscalls").unwrap_or_else(|| json!([]));
    let Value::Array(rules) = rules else { return Err(wrong("syscalls")) };
    let mut kept = Vec::new();
    for (index, rule) in rules.into_iter().enumerate() {
        let field = || wrong(&format!("syscalls[{index}]"));
        let Value::Object(mut rule) = rule else { return Err(field()) };
        let includes = condition(rule.remove("includes")).ok_or_else(field)?;
        let excludes = condition(rule.remove("excludes")).ok_or_else(field)?;
        rule.remove("comment");
        // Docker's older form has one name.
        if let Some(name) = rule.remove("name").filter(|name| name.as_str().is_some_and(|name| !name.is_empty())) {
            rule.insert("names".to_owned(), json!([name]));
        }
        rule.retain(|_, value| !value.is_null());
        if includes.holds(bounding, release) && !excludes.strikes(bounding, release) {
            kept.push(Value::Object(rule));
        }
    }
    document.insert("syscalls".to_owned(), Value::Array(kept));
    document.retain(|_, value| !value.is_null());
    Ok(serde_json::from_value(Value::Object(document))?)
}

/// The architectures of this machine, of a map from each to those whose programs it runs too.
fn architectures(map: &Value) -> Option<Value> {
    let own = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    let mut found = vec![json!(own)];
    for entry in map.as_array()? {
        if entry["architecture"] == own {
            found.extend(entry["subArchitectures"].as_array().into_iter().flatten().cloned());
        }
    }
    Some(Value::Array(found))
}

/// What a rule depends on.
#[derive(Debug, Default)]
struct Condition {
    capabilities: Vec<Capability>,
    architectures: Vec<String>,
    kernel: Option<String>,
}

fn condition(value: Option<Value>) -> Option<Condition> {
    let value = match value {
        None | Some(Value::Null) => return Some(Condition::default()),
        Some(value) => value,
    };
    let texts = |key: &str| -> Option<Vec<String>> {
        match &value[key] {
            Value::Null => Some(Vec::new()),
            Value::Array(all) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
            _ => None,
        }
    };
    let capabilities = texts("caps")?.iter().map(|name| capabilities::parse(name).ok()).collect::<Option<_>>()?;
    let kernel = value["minKernel"].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Condition { capabilities, architectures: texts("arches")?, kernel })
}

impl Condition {
    /// Whether all of it is so: of a rule's `includes`.
    fn holds(&self, bounding: CapabilitySet, release: &str) -> bool {
        self.capabilities.iter().all(|capability| bounding.contains(*capability))
            && (self.architectures.is_empty() || self.has_machine())
            && self.kernel.as_deref().is_none_or(|least| is_at_least(release, least))
    }

    /// Whether any of it is so: of a rule's `excludes`.
    fn strikes(&self, bounding: CapabilitySet, release: &str) -> bool {
        self.capabilities.iter().any(|capability| bounding.contains(*capability))
            || self.has_machine()
            || self.kernel.as_deref().is_some_and(|least| is_at_least(release, least))
    }

    fn has_machine(&self) -> bool {
        let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        self.architectures.iter().any(|name| name == own)
    }
}

/// Compares "6.1.0-12-amd64" with "4.8".
fn is_at_least(release: &str, least: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        let parts = text.split(|letter: char| !letter.is_ascii_digit()).map_while(|part| part.parse().ok());
        parts.take(2).collect()
    };
    numbers(release) >= numbers(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"{
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "comment": "", "includes": {}, "excludes": {}},
            {"name": "write", "action": "SCMP_ACT_ALLOW", "args": null},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["unshare"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
            {"names": ["sync_file_range2"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["ppc64le"]}}
        ]
    }"#;

    fn names(bounding: CapabilitySet) -> Vec<String> {
        let read = read(PROFILE, bounding, "6.1.0-12-amd64").unwrap();
        read.syscalls().iter().flatten().flat_map(|rule| rule.names().clone()).collect()
    }

    #[test]
    fn rules_count_where_their_conditions_hold() {
        assert_eq!(names(CapabilitySet::docker()), ["read", "write", "unshare", "ptrace"]);
        assert_eq!(names(CapabilitySet::ALL), ["read", "write", "mount", "ptrace"]);
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        for text in
            ["", "[]", "{}", r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": {}}"#, r#"{"defaultAction": "x"}"#]
        {
            assert!(read(text, CapabilitySet::docker(), "6.1").is_err(), "{text}");
        }
    }

    #[test]
    fn releases_are_compared_by_their_numbers() {
        for (release, least, expected) in
            [("6.1.0", "4.8", true), ("4.8", "4.8", true), ("4.7.9", "4.8", false), ("10.0", "9.9", true)]
        {
            assert_eq!(is_at_least(release, least), expected, "{release} {least}");
        }
    }
}
