//! What becomes of a container's output, as it was asked for. What it means is in `logging`.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// What becomes of a container's output.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Log {
    /// Who keeps it. Absent until a container is made, and of those made before there was a choice: a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    /// How, by Docker's names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

impl Log {
    /// Who keeps it, where nobody chose: a file.
    pub fn driver(&self) -> Driver {
        self.driver.unwrap_or(Driver::JsonFile)
    }
}

/// Who keeps the output of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Driver {
    /// Files that others may read: Docker's lines of JSON.
    JsonFile,
    /// Files that are meant for this runtime alone, compressed.
    Local,
    /// systemd's journal, beside files.
    Journald,
    /// A server of syslog, beside files.
    Syslog,
    /// Nobody.
    None,
}

impl Driver {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::JsonFile, Self::Local, Self::Journald, Self::Syslog, Self::None];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JsonFile => "json-file",
            Self::Local => "local",
            Self::Journald => "journald",
            Self::Syslog => "syslog",
            Self::None => "none",
        }
    }

    /// Parses a name; otherwise says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|driver| driver.as_str() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("there is no log driver {text:?}: there are {known}")
        })
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
