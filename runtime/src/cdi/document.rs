//! What a spec file says, JSON or YAML, field by field as in SPEC.md. What it has beyond that is refused: a vendor who asks
//! for more than is done would find out in the container.

use std::{collections::BTreeMap, fmt, path::Path};

use serde::{Deserialize, Deserializer, de};

/// A spec file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// Version of the format.
    pub cdi_version: String,
    /// What all its devices are: `vendor.com/class`.
    pub kind: String,
    /// What is said of all devices.
    #[serde(default, deserialize_with = "texts")]
    pub annotations: BTreeMap<String, String>,
    /// The devices.
    pub devices: Vec<DeviceEntry>,
    /// What any of them needs.
    #[serde(default)]
    pub container_edits: Edits,
}

/// A device of a spec file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceEntry {
    /// Its name within the kind.
    pub name: String,
    /// What is said of it.
    #[serde(default, deserialize_with = "texts")]
    pub annotations: BTreeMap<String, String>,
    /// What it needs.
    #[serde(default)]
    pub container_edits: Edits,
}

/// What is changed in a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Edits {
    /// NAME=VALUE.
    pub env: Vec<String>,
    /// Device nodes.
    pub device_nodes: Vec<DeviceNode>,
    /// Network devices that move into the container.
    pub net_devices: Vec<NetDevice>,
    /// Mounts.
    pub mounts: Vec<Mount>,
    /// Programs that run at points of the container's life.
    pub hooks: Vec<Hook>,
    /// Groups that its process is in besides; 0 is none. The text of SPEC.md has both spellings.
    #[serde(alias = "additionalGIDs")]
    pub additional_gids: Vec<u32>,
    /// Shares of cache and memory bandwidth.
    pub intel_rdt: Option<IntelRdt>,
}

/// A device node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceNode {
    /// In the container.
    pub path: String,
    /// On the host. Absent: the same.
    pub host_path: Option<String>,
    /// b, c, u or p. Absent: the host's.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Absent or 0: the host's.
    pub major: Option<i64>,
    /// Absent: the host's.
    pub minor: Option<i64>,
    /// Absent: the host's.
    pub file_mode: Option<u32>,
    /// Of r, w and m, or "none". Absent: rwm.
    pub permissions: Option<String>,
    /// Absent: the process's.
    pub uid: Option<u32>,
    /// Absent: the process's.
    pub gid: Option<u32>,
}

/// A network device that moves into the container.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetDevice {
    /// Its name on the host.
    pub host_interface_name: String,
    /// Its name in the container.
    pub name: String,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mount {
    /// On the host.
    pub host_path: String,
    /// In the container.
    pub container_path: String,
    /// File system. Absent: the host's path is bound.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Options of the runtime spec.
    #[serde(default)]
    pub options: Vec<String>,
}

/// A program that runs at a point of the container's life.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hook {
    /// The point.
    pub hook_name: String,
    /// The program.
    pub path: String,
    /// Its name and arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its environment.
    #[serde(default)]
    pub env: Vec<String>,
    /// Seconds that it may take. Absent: any.
    pub timeout: Option<i64>,
}

/// Shares of cache and memory bandwidth.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IntelRdt {
    /// Class of service.
    #[serde(rename = "closID")]
    pub clos_id: Option<String>,
    /// Cache.
    pub l3_cache_schema: Option<String>,
    /// Bandwidth.
    pub mem_bw_schema: Option<String>,
    /// Lines as they are.
    pub schemata: Vec<String>,
    /// It is watched.
    pub enable_monitoring: bool,
    /// Until version 1.0.0: its cache is watched.
    #[serde(rename = "enableCMT")]
    pub enable_cmt: bool,
    /// Until version 1.0.0: its bandwidth is watched.
    #[serde(rename = "enableMBM")]
    pub enable_mbm: bool,
}

impl Mount {
    /// A path of the host, rather than a new file system.
    pub fn is_bind(&self) -> bool {
        matches!(self.kind.as_deref(), None | Some("" | "none" | "bind")) || self.says_bind()
    }

    /// Its options say how the path is bound.
    pub fn says_bind(&self) -> bool {
        self.options.iter().any(|option| option == "bind" || option == "rbind")
    }
}

/// Why a file is not a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The field. Empty: the file as a whole.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Document {
    /// Parses a file by the ending of its name. Only one way to write a number is not JSON's: octal, `0666`, in YAML.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Malformed> {
        match path.extension().is_some_and(|ending| ending == "json") {
            true => json(text),
            false => yaml(text),
        }
    }
}

fn json(text: &str) -> Result<Document, Malformed> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let document = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| Malformed { field: field(error.path()), problem: error.inner().to_string() })?;
    match deserializer.end() {
        Ok(()) => Ok(document),
        Err(error) => Err(Malformed { field: String::new(), problem: error.to_string() }),
    }
}

fn yaml(text: &str) -> Result<Document, Malformed> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
    let mut at = String::new();
    let read = |deserializer: serde_saphyr::Deserializer<'_, '_>| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            at = field(error.path());
            error.into_inner()
        })
    };
    let document = serde_saphyr::with_deserializer_from_str_with_options(text, options, read);
    document.map_err(|error| Malformed { field: at, problem: error.to_string() })
}

/// The path of a field; "." is the document.
fn field(path: &serde_path_to_error::Path) -> String {
    let text = path.to_string();
    if text == "." { String::new() } else { text }
}

/// Annotations are text, but `true` and `1` are written without quotes, also by BuildKit's own manual.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Text(String);

    struct Scalar;

    impl de::Visitor<'_> for Scalar {
        type Value = Text;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_bool<E>(self, value: bool) -> Result<Text, E> {
            Ok(Text(value.to_string()))
        }

        fn visit_i64<E>(self, value: i64) -> Result<Text, E> {
            Ok(Text(value.to_string()))
        }

        fn visit_u64<E>(self, value: u64) -> Result<Text, E> {
            Ok(Text(value.to_string()))
        }

        fn visit_f64<E>(self, value: f64) -> Result<Text, E> {
            Ok(Text(value.to_string()))
        }

        fn visit_str<E>(self, value: &str) -> Result<Text, E> {
            Ok(Text(value.to_owned()))
        }
    }

    impl<'de> Deserialize<'de> for Text {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_any(Scalar)
        }
    }

    let texts = BTreeMap::<String, Text>::deserialize(deserializer)?;
    Ok(texts.into_iter().map(|(key, Text(value))| (key, value)).collect())
}

#[cfg(test)]
mod tests;
