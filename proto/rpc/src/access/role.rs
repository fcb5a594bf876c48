//! Roles and what each may do; grants, which no role but one has by itself.

use std::fmt;

use clap::ValueEnum;
use serde::Deserialize;
use strata_proto::types::v1::Permission;

/// What a caller is to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look: lists, details, logs, events
    Viewer,
    /// Build images, pull and push them; the role of a builder service too
    Builder,
    /// Pull and push images, have containers, networks and volumes; the role of a runtime service too
    Operator,
    /// Everything
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Builder, Self::Operator, Self::Admin];

    /// Its name in configuration and certificates.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Builder => "builder",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The role of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether it has the permission.
    pub const fn may(self, permission: Permission) -> bool {
        match permission {
            Permission::Unspecified => false,
            Permission::View => true,
            Permission::Push | Permission::Snapshot => matches!(self, Self::Builder | Self::Operator | Self::Admin),
            Permission::Build => matches!(self, Self::Builder | Self::Admin),
            Permission::Run => matches!(self, Self::Operator | Self::Admin),
            Permission::Admin => matches!(self, Self::Admin),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something within a request that makes its sender as good as root of the host, or lets it touch what is the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// Privileged containers and processes, capabilities beyond the default ones, no seccomp filter, paths of `/proc`
    /// unmasked.
    Privileged,
    /// Paths of the host, and file systems that the host mounts, in containers.
    HostMounts,
    /// Devices of the host.
    Devices,
    /// Namespaces of the host, and its interfaces.
    HostNamespaces,
}

impl Grant {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Privileged, Self::HostMounts, Self::Devices, Self::HostNamespaces];

    /// Its name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::HostMounts => "host-mounts",
            Self::Devices => "devices",
            Self::HostNamespaces => "host-namespaces",
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A permission in words: what its holder may do.
pub(super) const fn words(permission: Permission) -> &'static str {
    match permission {
        Permission::Unspecified => "do what nobody declared",
        Permission::View => "look",
        Permission::Push => "change images",
        Permission::Build => "build",
        Permission::Run => "change containers",
        Permission::Admin => "look after the service",
        Permission::Snapshot => "change snapshots",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_roles_is_this_one() {
        use Permission::{Admin, Build, Push, Run, Snapshot, Unspecified, View};
        let all = [Unspecified, View, Push, Build, Run, Admin, Snapshot];
        let has = |role: Role| all.into_iter().filter(|&permission| role.may(permission)).collect::<Vec<_>>();

        assert_eq!(has(Role::Viewer), [View]);
        assert_eq!(has(Role::Builder), [View, Push, Build, Snapshot]);
        assert_eq!(has(Role::Operator), [View, Push, Run, Snapshot]);
        assert_eq!(has(Role::Admin), [View, Push, Build, Run, Admin, Snapshot]);
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.name()), Some(role));
            let read: std::collections::BTreeMap<String, Role> = toml::from_str(&format!("r = \"{role}\"")).unwrap();
            assert_eq!(read["r"], role);
        }
        for grant in Grant::ALL {
            let read: std::collections::BTreeMap<String, Grant> = toml::from_str(&format!("g = \"{grant}\"")).unwrap();
            assert_eq!(read["g"], grant);
        }
        assert_eq!(Role::parse("Admin"), None);
    }
}
