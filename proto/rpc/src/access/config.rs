//! The table `[access]` of strata.toml, which all services read.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use super::role::{Grant, Role};
use crate::config;

/// Who has which role, and who has which grants.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Domain of the names in certificates that carry a role: `spiffe://DOMAIN/ROLE/NAME`.
    pub trust_domain: String,
    /// Which requests are recorded in the audit log.
    pub audit: Audited,
    /// Roles of names in certificates, over what they carry: `spiffe://…` or another URI, or `dns:NAME`.
    pub subjects: BTreeMap<String, Given>,
    /// Roles of local users who are not the owner of the service, by name or id.
    pub users: BTreeMap<String, Role>,
    /// Grants by subject (`spiffe://…`, `dns:NAME`, `user:ID`), or by role.
    pub grants: BTreeMap<String, Vec<Grant>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            trust_domain: "strata".to_owned(),
            audit: Audited::Remote,
            subjects: BTreeMap::new(),
            users: BTreeMap::new(),
            grants: BTreeMap::new(),
        }
    }
}

/// A role, or none: refused, whatever the certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Given(pub Option<Role>);

impl TryFrom<String> for Given {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        match Role::parse(&name) {
            None if name != "none" => {
                Err(format!("{name:?} is no role: give {} or none", Role::ALL.map(Role::name).join(", ")))
            }
            role => Ok(Self(role)),
        }
    }
}

/// Which requests are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audited {
    /// Those of everybody but the owner of the service on this host, who could change the log.
    Remote,
    /// All.
    All,
}

/// Why the rules cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// A local user that the host does not know.
    #[error("[access.users] of strata.toml names {user:?}, who is no user of this host")]
    UnknownUser {
        /// Name or id.
        user: String,
    },
    /// A name that no certificate can have.
    #[error("[access.{table}] of strata.toml has {subject:?}, which is neither a URI, dns:NAME{more}")]
    UnknownSubject {
        /// `subjects` or `grants`.
        table: &'static str,
        /// What is there.
        subject: String,
        /// What else could have been.
        more: &'static str,
    },
}

/// The file as far as this module reads it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Shared {
    access: Config,
}

impl Config {
    /// Reads the table of the file, which need not be there.
    pub fn load(path: &Path) -> Result<Self, config::Error> {
        Ok(config::load::<Shared>(Some(path).filter(|path| path.exists()))?.access)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_for_others_has_rules_too_and_a_misspelt_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("strata.toml");
        assert!(Config::load(&path).unwrap().users.is_empty());
        let text = "[registries]\nattempts = 3\n[access.users]\nalice = \"viewer\"\n[access.grants]\noperator = [\"devices\"]\n";
        std::fs::write(&path, text).unwrap();

        let config = Config::load(&path).unwrap();

        assert_eq!(config.users["alice"], Role::Viewer);
        assert_eq!(config.grants["operator"], [Grant::Devices]);
        for wrong in ["[access]\nuser = 1", "[access.users]\na = \"root\"", "[access.grants]\na = [\"everything\"]"] {
            std::fs::write(&path, wrong).unwrap();
            assert!(Config::load(&path).is_err(), "{wrong}");
        }
    }
}
