//! What JSON does not tell of Docker's fields: which are maps of whatever keys, which are lists, which may be missing; and
//! values as Go prints them.

use serde_json::Value;

/// What a field holds, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A list, also where it is null.
    List,
    /// A map, also where it is null: a key that it does not have is no mistake.
    Map,
    /// What its value says. An object is a record: a field that it does not have is a mistake.
    Plain,
}

/// Docker's maps.
const MAPS: &[&str] = &[
    "Annotations",
    "AuxiliaryAddresses",
    "Containers",
    "Data",
    "DriverOpts",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "PortBindings",
    "Ports",
    "Services",
    "StorageOpt",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// Docker's lists that are null where there is nothing.
const LISTS: &[&str] = &[
    "Aliases",
    "Args",
    "Binds",
    "BlkioDeviceReadBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceWriteIOps",
    "BlkioWeightDevice",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "DNSNames",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Layers",
    "Links",
    "MaskedPaths",
    "Mounts",
    "OnBuild",
    "ReadonlyPaths",
    "RepoDigests",
    "RepoTags",
    "SecurityOpt",
    "Shell",
    "Ulimits",
    "VolumesFrom",
];

/// Docker's fields that are left out where there is nothing.
const OPTIONAL: &[&str] = &[
    "Author",
    "Driver",
    "Health",
    "Healthcheck",
    "IPRange",
    "Name",
    "SizeRootFs",
    "SizeRw",
    "StopSignal",
    "StopTimeout",
    "User",
    "Variant",
    "WorkingDir",
];

impl Shape {
    /// That of a field.
    pub fn of(field: &str) -> Self {
        if MAPS.contains(&field) {
            Self::Map
        } else if LISTS.contains(&field) {
            Self::List
        } else {
            Self::Plain
        }
    }
}

/// Says whether a record may lack a field.
pub fn is_optional(field: &str) -> bool {
    OPTIONAL.contains(&field) || Shape::of(field) != Shape::Plain
}

/// Says whether Go takes a value for true.
pub fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(is) => *is,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// What a value is called.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A value as Go prints it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let mut pairs: Vec<String> = fields.iter().map(|(key, value)| format!("{key}:{}", shown(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        Value::Bool(is) => is.to_string(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(broken) => broken.to_string(),
            None => number.to_string(),
        },
    }
}
