//! The caller of a request, as its handler finds it.

use std::collections::BTreeSet;

use strata_proto::types::v1::Permission;
use tonic::{Code, Request, Status};

use super::{
    audit::Entry,
    role::{Grant, Role, words},
};
use crate::fault::{Fault, to_status};

/// Who sent a request, and what it may do.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(super) subject: String,
    pub(super) role: Option<Role>,
    pub(super) grants: Grants,
    pub(super) is_audited: bool,
    pub(super) entry: Option<Entry>,
}

/// Which grants a caller has.
#[derive(Debug, Clone)]
pub(super) enum Grants {
    All,
    These(BTreeSet<Grant>),
}

/// Why a caller was refused.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    /// Nobody gave the caller a role.
    #[error(
        "{subject} has no role here: an administrator gives it one with [access.subjects] or [access.users] of strata.toml, or \
         with a certificate of `ctl tls issue`"
    )]
    NoRole {
        /// The caller.
        subject: String,
    },
    /// The role lacks the permission.
    #[error("{subject} may not {words}: as {role} it lacks what {holders} have", words = words(*permission), holders = holders(*permission))]
    Permission {
        /// The caller.
        subject: String,
        /// Its role.
        role: Role,
        /// What the method needs.
        permission: Permission,
    },
    /// The caller lacks a grant.
    #[error("{subject} may not have {what}: that takes the grant {grant:?}, which an administrator gives with [access.grants] of strata.toml", grant = grant.name())]
    Grant {
        /// The caller.
        subject: String,
        /// What it is for.
        grant: Grant,
        /// What was asked for.
        what: String,
    },
    /// What must be recorded cannot be.
    #[error("the audit log cannot be written, so nothing is done")]
    Unrecorded {
        /// Why.
        source: super::audit::Error,
    },
    /// The request came by no door that knows its callers.
    #[error("it is not known who asks")]
    Unknown,
}

fn holders(permission: Permission) -> String {
    let names: Vec<_> = Role::ALL.into_iter().filter(|role| role.may(permission)).map(Role::name).collect();
    names.join(" and ")
}

impl Fault for Denied {
    fn code(&self) -> Code {
        match self {
            Self::NoRole { .. } | Self::Permission { .. } | Self::Grant { .. } | Self::Unknown => {
                Code::PermissionDenied
            }
            Self::Unrecorded { .. } => Code::Unavailable,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NoRole { .. } | Self::Permission { .. } | Self::Grant { .. } | Self::Unknown => {
                "FAULT_PERMISSION_DENIED"
            }
            Self::Unrecorded { .. } => "FAULT_AUDIT_UNAVAILABLE",
        }
    }

    fn metadata(&self) -> Vec<(String, String)> {
        let of = |subject: &String, key: &str, value: &str| {
            vec![("subject".to_owned(), subject.clone()), (key.to_owned(), value.to_owned())]
        };
        match self {
            Self::NoRole { subject } => vec![("subject".to_owned(), subject.clone())],
            Self::Permission { subject, permission, .. } => of(subject, "permission", permission.as_str_name()),
            Self::Grant { subject, grant, .. } => of(subject, "grant", grant.name()),
            Self::Unrecorded { .. } | Self::Unknown => Vec::new(),
        }
    }
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        to_status(&denied)
    }
}

impl Caller {
    /// The caller of this request. Without one, which is where no [`super::Access`] stood at the door, nothing is allowed.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Denied> {
        request.extensions().get::<Self>().cloned().ok_or(Denied::Unknown)
    }

    /// Its name: `user:ID`, `spiffe://…`, `dns:NAME`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Insists on a grant before something is done. `what` is what was asked for, in words: "the network of the host".
    pub fn require(&self, grant: Grant, what: &str) -> Result<(), Denied> {
        let has = match &self.grants {
            Grants::All => true,
            Grants::These(grants) => grants.contains(&grant),
        };
        if let Some(entry) = &self.entry {
            entry.granted(grant, what, has).map_err(|source| Denied::Unrecorded { source })?;
        }
        if has {
            return Ok(());
        }
        Err(Denied::Grant { subject: self.subject.clone(), grant, what: what.to_owned() })
    }

    /// Insists on a permission before the handler is called.
    pub(super) fn permit(&self, permission: Permission) -> Result<(), Denied> {
        let Some(role) = self.role else { return Err(Denied::NoRole { subject: self.subject.clone() }) };
        if role.may(permission) {
            return Ok(());
        }
        Err(Denied::Permission { subject: self.subject.clone(), role, permission })
    }
}
